//! Who runs a server, and what this program may therefore do with it.

use anyhow::{Result, bail};

use super::{
    compose::Container,
    native::NativeServer,
    process::{ProcessId, Recorded},
};

/// A running server.
#[derive(Debug)]
pub(crate) enum Control {
    /// A process of this program.
    Native(Box<NativeServer>),
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

    /// Lets a process of this program run on after it.
    pub(crate) fn detach(&mut self) {
        if let Self::Native(server) = self {
            server.detach();
        }
    }

    /// What ends the process in order; none when it is not a process of this program.
    pub(crate) fn recorded(&self) -> Option<Recorded> {
        match self {
            Self::Native(server) => server.recorded(),
            Self::Container(_) | Self::Foreign(_) => None,
        }
    }

    /// Ends a process of this program; containers are removed together.
    pub(crate) fn end(&mut self) {
        if let Self::Native(server) = self {
            server.stop();
        }
    }
}

/// The life of a server: the same for all of them.
macro_rules! server_life {
    ($server:ident, $name:literal) => {
        impl $server {
            /// Process id of the server, while it runs as a process of this program.
            pub fn pid(&self) -> Option<u32> {
                self.control.process().map($crate::services::ProcessId::number)
            }

            /// Orderly shutdown, then a start on the same ports and data. Returns when the server answers again.
            ///
            /// # Errors
            ///
            /// The server is not this program's, or does not start.
            pub fn restart(&mut self) -> anyhow::Result<()> {
                self.stop()?;
                self.start()
            }

            /// Orderly shutdown; transactions roll back, connections close.
            ///
            /// # Errors
            ///
            /// The server is not this program's.
            pub fn stop(&mut self) -> anyhow::Result<()> {
                anyhow::Context::context(self.control.stop(), $name)
            }

            /// Ends the server as a crash would: nothing is written any more and nobody gets a reply.
            ///
            /// # Errors
            ///
            /// The server is not this program's.
            pub fn kill(&mut self) -> anyhow::Result<()> {
                anyhow::Context::context(self.control.crash(), $name)
            }

            /// Starts it again; nothing when it runs.
            ///
            /// # Errors
            ///
            /// The server is not this program's, or does not start.
            pub fn start(&mut self) -> anyhow::Result<()> {
                anyhow::Context::context(self.control.start(), $name)
            }
        }
    };
}
pub(super) use server_life;

fn refuse(whose: &str) -> Result<()> {
    bail!("the server is not this program's to stop or start: it comes from {whose}; use Services::start_own")
}
