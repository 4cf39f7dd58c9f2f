//! Who runs a server, and what this program may therefore do with it.

use anyhow::{Result, bail};

use super::{compose::Container, native::NativeServer, process::ProcessId};

/// A running server.
#[derive(Debug)]
pub(crate) enum Control {
    /// A process of this program.
    Native(NativeServer),
    /// A container of this program.
    Container(Container),
    /// Somebody else's, for the reason given: used as it is.
    Foreign(&'static str),
}

impl Control {
    pub(crate) fn process(&self) -> Option<ProcessId> {
        match self {
            Self::Native(server) => server.process(),
            Self::Container(_) | Self::Foreign(_) => None,
        }
    }

    pub(crate) fn stop(&mut self) -> Result<()> {
        match self {
            Self::Native(server) => {
                server.stop();
                Ok(())
            }
            Self::Container(container) => container.stop(),
            Self::Foreign(whose) => refuse(whose),
        }
    }

    pub(crate) fn crash(&mut self) -> Result<()> {
        match self {
            Self::Native(server) => {
                server.crash();
                Ok(())
            }
            Self::Container(container) => container.kill(),
            Self::Foreign(whose) => refuse(whose),
        }
    }

    pub(crate) fn start(&mut self) -> Result<()> {
        match self {
            Self::Native(server) => server.resume(),
            Self::Container(container) => container.start(),
            Self::Foreign(whose) => refuse(whose),
        }
    }

    pub(crate) fn detach(self) {
        if let Self::Native(server) = self {
            server.detach();
        }
    }
}

fn refuse(whose: &str) -> Result<()> {
    bail!("the server is not this program's to stop or start: it comes from {whose}; use Services::start_own")
}
