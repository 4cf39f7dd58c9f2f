/// A deliberate defect of the engine. The simulation must catch each of them.
#[cfg(feature = "simulation")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Defect {
    /// Dedup rows are committed before the handlers' transaction begins.
    DedupOutsideTransaction,
    /// The broker is acknowledged when the transaction begins.
    AcknowledgeBeforeCommit,
    /// In durable mode a message that was stored is taken for processed.
    ReceivedAsProcessed,
    /// The broker is acknowledged up to the last message that is done, over gaps.
    AcknowledgeOverGaps,
    /// Followers of a parked key are processed.
    OvertakeParkedHead,
    /// A worker whose held message was claimed by another commits it.
    StaleWorkerCommits,
}

/// Asks for a defect; always `false` without the feature `simulation`.
macro_rules! has_defect {
    ($config:expr, $defect:ident) => {{
        #[cfg(feature = "simulation")]
        {
            $config.defect == Some($crate::Defect::$defect)
        }
        #[cfg(not(feature = "simulation"))]
        {
            let _ = &$config;
            false
        }
    }};
}
pub(crate) use has_defect;
