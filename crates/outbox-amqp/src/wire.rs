use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// The socket of a connection, to cut it at once: lapin would first send all that it holds, and could not even say goodbye while the
/// broker blocks the connection. Cut when dropped.
#[derive(Debug)]
pub(crate) struct Wire {
    state: Arc<Mutex<State>>,
}

/// Where the connection puts its socket as soon as it has one.
#[derive(Debug, Clone)]
pub(crate) struct WireEnd {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
enum State {
    Waiting,
    Open(TcpStream),
    Cut,
}

impl Wire {
    pub(crate) fn new() -> (Self, WireEnd) {
        let state = Arc::new(Mutex::new(State::Waiting));
        (Self { state: state.clone() }, WireEnd { state })
    }

    /// Cuts the connection, now or as soon as it has a socket.
    pub(crate) fn cut(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Open(socket) = std::mem::replace(&mut *state, State::Cut) {
            // fails only when the connection is gone already
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.cut();
    }
}

impl WireEnd {
    /// Puts a socket here.
    ///
    /// # Errors
    ///
    /// When it was cut meanwhile, or the socket cannot be held a second time.
    pub(crate) fn attach(&self, socket: &tokio::net::TcpStream) -> io::Result<()> {
        let second = second_handle(socket)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Cut = *state {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the session is over"));
        }
        *state = State::Open(second);
        Ok(())
    }
}

#[cfg(unix)]
fn second_handle(socket: &tokio::net::TcpStream) -> io::Result<TcpStream> {
    use std::os::fd::AsFd as _;
    Ok(socket.as_fd().try_clone_to_owned()?.into())
}

#[cfg(windows)]
fn second_handle(socket: &tokio::net::TcpStream) -> io::Result<TcpStream> {
    use std::os::windows::io::AsSocket as _;
    Ok(socket.as_socket().try_clone_to_owned()?.into())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn dropping_the_wire_ends_the_connection_for_both_sides() {
        let (mut near, mut far) = pair().await;
        let (wire, end) = Wire::new();
        end.attach(&near).unwrap();
        drop(wire);
        assert_eq!(near.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_socket_that_comes_after_the_cut_is_refused() {
        let (near, _far) = pair().await;
        let (wire, end) = Wire::new();
        wire.cut();
        assert!(end.attach(&near).is_err());
    }
}
