use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_compat::Compat;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::tcp::AsyncTcpStream;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties, Error, ErrorKind};
use outbox_core::ports::TransportError;
use tokio::net::TcpStream;

use crate::endpoint::Endpoint;
use crate::quiet::silence_this_thread;
use crate::refusal::fault;
use crate::wire::Wire;

/// Why a connection could not be opened.
#[derive(Debug)]
pub(crate) struct Unopened {
    /// What the broker, TLS or the network said, and what to do; without credentials.
    pub(crate) text: String,
    /// Time does not mend it.
    #[cfg_attr(not(feature = "source"), allow(dead_code, reason = "the relay tries again whatever it is"))]
    pub(crate) is_refused: bool,
}

impl From<Unopened> for TransportError {
    fn from(unopened: Unopened) -> Self {
        Self::new(unopened.text)
    }
}

/// Opens a connection. Dropping the [`Wire`] cuts it, also while it is being opened.
///
/// # Errors
///
/// What the broker, TLS or the network said, without credentials.
pub(crate) async fn open(
    endpoint: &Endpoint,
    name: &str,
    timeout: Duration,
) -> Result<(Arc<Connection>, Wire), Unopened> {
    let (wire, end) = Wire::new();
    let failed = |what: String, is_refused: bool| Unopened { text: format!("{endpoint}: {what}"), is_refused };
    let runtime = lapin::runtime::default_runtime().map_err(|error| failed(error.to_string(), false))?;
    // lapin's own recovery stays off: the relay connects again, and knows what was confirmed
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let tls = endpoint.tls();
    let connector = async move |uri: AMQPUri, runtime| {
        silence_this_thread();
        let connecting = async {
            let host = (uri.authority.host.as_str(), uri.authority.port);
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host(host).await?.collect();
            let stream: AsyncTcpStream<Compat<TcpStream>> = AsyncTcpStream::connect(&runtime, addresses).await?;
            if let AsyncTcpStream::Plain(socket) = &stream {
                end.attach(socket.get_ref())?;
            }
            match uri.scheme {
                AMQPScheme::AMQP => Ok(stream),
                AMQPScheme::AMQPS => stream.into_tls(&uri.authority.host, tls.as_ref()).await,
            }
        };
        // bounded here too: this runs on lapin's thread, which nothing else would end
        let connected = tokio::time::timeout(timeout, connecting).await;
        connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(lapin::Error::from)
    };
    let opening = Connection::connector(endpoint.uri().clone(), runtime, connector, properties);
    match tokio::time::timeout(timeout, opening).await {
        Ok(Ok(connection)) => Ok((Arc::new(connection), wire)),
        Ok(Err(error)) => {
            let (advice, text) = (advice(&error), fault(&error));
            Err(failed(advice.map_or(text.clone(), |advice| format!("{text}: {advice}")), advice.is_some()))
        }
        Err(_) => Err(failed(format!("no answer within {} ms", timeout.as_millis()), false)),
    }
}

/// What to do about an error that time does not mend.
fn advice(error: &Error) -> Option<&'static str> {
    match error.kind() {
        ErrorKind::IOError(cause) if cause.kind() == io::ErrorKind::InvalidData => {
            Some("give the CA that signed the broker's certificate, and connect by a name that is in it")
        }
        ErrorKind::ParsingError(_) => Some("no RabbitMQ answers there, or it wants TLS (amqps)"),
        ErrorKind::ProtocolError(refused) => match refused.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => Some("check user and password"),
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => Some(
                "check the virtual host in the URI (%2f is the default one, \"/\") and the user's permissions on it",
            ),
            _ => None,
        },
        _ => None,
    }
}
