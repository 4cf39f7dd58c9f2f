use outbox_inbox::Defect as EngineDefect;

use super::ViolationKind;

/// A deliberate defect, switched on for a run. Each must be caught within a number of seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Defect {
    /// Dedup rows are committed before the handlers' transaction begins.
    DedupOutsideTransaction,
    /// The broker is acknowledged before the commit.
    AcknowledgeBeforeCommit,
    /// In durable mode a message that was received is taken for processed.
    ReceivedAsProcessed,
    /// The offset is committed past a message that is not stored.
    AcknowledgeOverGaps,
    /// A follower overtakes its parked head.
    OvertakeParkedHead,
    /// A batch is committed though a deadlock has ended its transaction.
    CommitAfterDeadlock,
    /// A worker commits a held message that was claimed by another meanwhile.
    StaleWorkerCommits,
}

impl Defect {
    /// Every defect.
    pub const ALL: [Self; 7] = [
        Self::DedupOutsideTransaction,
        Self::AcknowledgeBeforeCommit,
        Self::ReceivedAsProcessed,
        Self::AcknowledgeOverGaps,
        Self::OvertakeParkedHead,
        Self::CommitAfterDeadlock,
        Self::StaleWorkerCommits,
    ];

    /// Which promises it can break. A violation of another kind does not count as caught.
    pub fn breaks(self) -> &'static [ViolationKind] {
        use ViolationKind::*;
        match self {
            Self::DedupOutsideTransaction | Self::AcknowledgeBeforeCommit => &[Lost, Order],
            Self::ReceivedAsProcessed | Self::AcknowledgeOverGaps => &[Lost],
            Self::OvertakeParkedHead => &[Order],
            Self::CommitAfterDeadlock => &[Lost, Twice],
            Self::StaleWorkerCommits => &[Twice, Order],
        }
    }

    pub(super) fn of_engine(self) -> Option<EngineDefect> {
        match self {
            Self::DedupOutsideTransaction => Some(EngineDefect::DedupOutsideTransaction),
            Self::AcknowledgeBeforeCommit => Some(EngineDefect::AcknowledgeBeforeCommit),
            Self::ReceivedAsProcessed => Some(EngineDefect::ReceivedAsProcessed),
            Self::AcknowledgeOverGaps => Some(EngineDefect::AcknowledgeOverGaps),
            Self::OvertakeParkedHead => Some(EngineDefect::OvertakeParkedHead),
            Self::StaleWorkerCommits => Some(EngineDefect::StaleWorkerCommits),
            Self::CommitAfterDeadlock => None,
        }
    }
}
