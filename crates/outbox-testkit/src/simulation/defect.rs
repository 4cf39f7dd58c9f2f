use outbox_core::relay::Defect as EngineDefect;

use super::ViolationKind;

/// A deliberate defect, switched on for a run. Each must be caught within a number of seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Defect {
    /// The transport reports a message as published when it was only handed over.
    MarkBeforeConfirm,
    /// A reader with a floor, without segments and without the sweep.
    FloorWithoutSweep,
    /// Late ranges are read in an earlier statement than the rows past the floors.
    HotReadOverStraggler,
    /// A segment is guarded by the running list of the read that made it.
    OwnRunningList,
    /// A shard that is taken over starts at the floor of the others.
    CommonFloor,
    /// A failure mark does not check owner and epoch.
    FailureMarkWithoutEpoch,
    /// The engine publishes past its lease.
    PublishPastLease,
    /// The engine lets followers go before the dead letter's move committed.
    ReleaseBeforeBuried,
    /// Parked keys are read once and never again.
    ParkedKeysReadOnce,
    /// The engine forgets a settled message while a read may bring it back.
    ForgetSettledAtOnce,
    /// The transport takes an unknown outcome for a success.
    TimeoutTakenAsSuccess,
    /// The engine sends followers of the first message of a fresh slot.
    NoFirstAlone,
}

impl Defect {
    /// Every defect.
    pub const ALL: [Self; 12] = [
        Self::MarkBeforeConfirm,
        Self::FloorWithoutSweep,
        Self::HotReadOverStraggler,
        Self::OwnRunningList,
        Self::CommonFloor,
        Self::FailureMarkWithoutEpoch,
        Self::PublishPastLease,
        Self::ReleaseBeforeBuried,
        Self::ParkedKeysReadOnce,
        Self::ForgetSettledAtOnce,
        Self::TimeoutTakenAsSuccess,
        Self::NoFirstAlone,
    ];

    /// Which promises it can break. A violation of another kind does not count as caught.
    pub fn breaks(self) -> &'static [ViolationKind] {
        use ViolationKind::*;
        match self {
            Self::MarkBeforeConfirm | Self::TimeoutTakenAsSuccess => &[Lost],
            Self::FloorWithoutSweep => &[Stuck, Order],
            Self::HotReadOverStraggler | Self::OwnRunningList | Self::CommonFloor | Self::NoFirstAlone => &[Order],
            Self::FailureMarkWithoutEpoch => &[Unfenced],
            Self::PublishPastLease => &[PastLease],
            Self::ReleaseBeforeBuried => &[Order],
            Self::ParkedKeysReadOnce => &[Parked, Stuck],
            Self::ForgetSettledAtOnce => &[Duplicate],
        }
    }

    pub(super) fn of_engine(self) -> Option<EngineDefect> {
        match self {
            Self::PublishPastLease => Some(EngineDefect::PublishPastLease),
            Self::ReleaseBeforeBuried => Some(EngineDefect::ReleaseBeforeBuried),
            Self::ForgetSettledAtOnce => Some(EngineDefect::ForgetSettledAtOnce),
            Self::NoFirstAlone => Some(EngineDefect::NoFirstAlone),
            _ => None,
        }
    }
}
