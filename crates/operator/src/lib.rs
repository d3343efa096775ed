//! The controller framework: handlers, retries, diffs, timers, daemons, indices, finalizers, events.
//!
//! Two styles over one engine. *Controllers* are level-triggered: they are given a key and make the world match
//! it ([`Operator::controller`]). *Handlers* are told what happened to an object. Both share one informer per
//! kind ([`Informers`]), one work queue per controller and one way to retry.
#![forbid(unsafe_code)]

mod connect;
mod controller;
mod events;
mod informer;
mod key;
mod metrics;
mod moment;
mod operator;
mod queue;
mod writes;

pub use connect::{ConnectError, connect};
pub use controller::{Action, Controller, ReconcileError, Trigger, controller_of, group_of};
pub use events::{EventType, Recorder};
pub use informer::{
    AnyInformer, Change, Informer, InformerSettings, Informers, MetaChange, MetaObject, Object, StoreIndex,
    Subscription,
};
pub use key::Key;
pub use moment::{micro_time_from_ms, time_from_ms, time_to_ms};
pub use operator::{Operator, Settings};
pub use queue::{RetryDelay, Work, WorkQueue};

pub mod apply;
pub use writes::Writes;
