//! The conformance suite of a source: every sentence of the contracts of [`Source`](outbox_core::inbox::Source) and
//! [`Subscription`](outbox_core::inbox::Subscription), as a case.
