/// A deliberate defect of the engine. The simulation must catch each of them.
#[cfg(feature = "simulation")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Defect {
    /// Goes on publishing when its own count of the lease has run out.
    PublishPastLease,
    /// Lets the followers of a dead letter go before its move committed.
    ReleaseBeforeBuried,
    /// Forgets a settled message at once, though a read that began earlier may still bring it back.
    ForgetSettledAtOnce,
    /// Sends the followers of a fresh slot's first message before that is confirmed.
    NoFirstAlone,
}

/// Asks for a defect; always `false` without the feature `simulation`.
macro_rules! has_defect {
    ($config:expr, $defect:ident) => {{
        #[cfg(feature = "simulation")]
        {
            $config.defect == Some($crate::relay::Defect::$defect)
        }
        #[cfg(not(feature = "simulation"))]
        {
            let _ = &$config;
            false
        }
    }};
}
pub(super) use has_defect;
