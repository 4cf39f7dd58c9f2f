use outbox_core::relay::Defect as EngineDefect;

use super::ViolationKind;
use super::scenario::OrderRule;

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
    /// Transactions that need not be watched are listed before the horizon, and may have appended since.
    IdleListedBeforeHorizon,
    /// Nothing below a floor is looked at again, because there is no dirty read.
    NoDirtyRead,
    /// Watched rows are read in an earlier statement than the rows past the floors.
    HotReadOverWatched,
    /// A range below a floor is looked at once, at once.
    NoMargin,
    /// The dirty read runs before the read whose ranges it is to guard.
    DirtyReadFirst,
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
    pub const ALL: [Self; 17] = [
        Self::MarkBeforeConfirm,
        Self::FloorWithoutSweep,
        Self::HotReadOverStraggler,
        Self::OwnRunningList,
        Self::IdleListedBeforeHorizon,
        Self::NoDirtyRead,
        Self::HotReadOverWatched,
        Self::NoMargin,
        Self::DirtyReadFirst,
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
            Self::HotReadOverStraggler
            | Self::OwnRunningList
            | Self::IdleListedBeforeHorizon
            | Self::NoDirtyRead
            | Self::HotReadOverWatched
            | Self::NoMargin
            | Self::DirtyReadFirst
            | Self::CommonFloor
            | Self::NoFirstAlone => &[Order],
            Self::FailureMarkWithoutEpoch => &[Unfenced],
            Self::PublishPastLease => &[PastLease],
            Self::ReleaseBeforeBuried => &[Order],
            Self::ParkedKeysReadOnce => &[Parked, Stuck],
            Self::ForgetSettledAtOnce => &[Duplicate],
        }
    }

    /// The rule that it is a defect of, when it is one of a rule.
    pub(super) fn of_rule(self) -> Option<OrderRule> {
        match self {
            Self::FloorWithoutSweep
            | Self::HotReadOverStraggler
            | Self::OwnRunningList
            | Self::IdleListedBeforeHorizon
            | Self::CommonFloor => Some(OrderRule::Snapshots),
            Self::NoDirtyRead | Self::HotReadOverWatched | Self::NoMargin | Self::DirtyReadFirst => {
                Some(OrderRule::DirtyReads)
            }
            _ => None,
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
