//! The controller framework: handlers, retries, diffs, timers, daemons, indices, finalizers, events.
//!
//! Two styles over one engine. *Controllers* are level-triggered: they are given a key and make the world match
//! it ([`Operator::controller`]). *Handlers* are told what happened to an object. Both share one informer per
//! kind ([`Informers`]), one work queue per controller and one way to retry.
//!
//! ## Handlers
//!
//! A handler is an `async fn` that takes a [`Ctx`]. It is told why it is called and what changed, and acts through
//! the client and the patch it is given:
//!
//! ```ignore
//! async fn created(ctx: Ctx<Widget>) -> HandlerResult<Value> {
//!     make_something_for(ctx.object()).await?;              // an error is retried after the back-off
//!     ctx.event_normal("Made", "made something");           // an event on the object
//!     Ok(json!({ "made": true }))                           // written to `status.created`
//! }
//!
//! async fn resized(ctx: Ctx<Widget>) -> HandlerResult {
//!     tracing::info!("from {} to {}", ctx.old(), ctx.new()); // the field's own values
//!     ctx.patch().status("size", ctx.new().clone());
//!     Ok(())
//! }
//!
//! Operator::new(client, Arc::new(SystemClock::new()))
//!     .on::<Widget>()
//!     .create(created)
//!     .field("spec.size", handler(resized).retries(5).label("team", "shop"))
//!     .run(cancel)
//!     .await;
//! ```
//!
//! There are handlers for `create`, `update`, `delete`, `resume`, `field` and `event`, timers and daemons beside each
//! object, and indices over objects ([`Operator::index`]). The state of handlers is kept on the object under Kopf's
//! names, so an object can change hands between the two without running anything twice; [`Persistence::Lean`] keeps a
//! digest instead. A finalizer is added only when a delete handler needs it. The whole example is
//! `examples/operator-quickstart`.
//!
//! ## Controllers
//!
//! ```ignore
//! let controller = operator.controller::<Deployment>("deployment").owns::<ReplicaSet>();
//! let deployments = controller.store();
//! controller.reconcile(move |key| { /* read the stores, write through the client */ });
//! ```
//!
//! A controller that counts objects notes its writes in [`Writes`] and waits until its stores show them.
//!
//! ## Several replicas
//!
//! [`Operator::run_as_leader`] works only while it holds a Lease; [`LeaderElection`] does so for anything else.
#![forbid(unsafe_code)]

mod connect;
mod controller;
mod definitions;
mod events;
mod explain;
mod handlers;
mod informer;
mod key;
mod kinds;
mod lease;
mod metrics;
mod moment;
mod operator;
mod peering;
mod posting;
mod preview;
mod queue;
mod shared_kinds;
mod writes;

pub use gantry_clock::{Clock, SystemClock};

pub use connect::{ConnectError, connect, connect_as_found};
pub use controller::{Action, Controller, ReconcileError, Trigger, controller_of, group_of};
pub use definitions::{InstallError, install_definitions};
pub use events::{EventType, Recorder};
pub use explain::explain;
pub use handlers::{
    Ctx, Diff, DiffItem, ErrorsMode, Expect, Handler, HandlerError, HandlerResult, HandlerSettings, Index,
    IntoHandler, KeyNames, LastHandledName, Lifecycle, Memo, NamespaceFilter, On, Operation, Patch,
    Persistence, Question, Reason, Stopping, Subject, handler,
};
pub use informer::{
    AnyInformer, Change, Informer, InformerSettings, Informers, MetaChange, MetaObject, Object, StoreIndex,
    Subscription,
};
pub use key::Key;
pub use kinds::{Discovered, ServedKind, discover, served_kinds, served_plurals};
pub use lease::{LeadEnd, LeaderElection, LeaseError, LeaseSettings};
pub use moment::{micro_time_from_ms, time_from_ms, time_to_ms};
pub use operator::{Operator, Settings};
pub use peering::Peering;
pub use posting::{EventPoster, PlainEvent};
pub use preview::{Preview, Rule};
pub use queue::{RetryDelay, Work, WorkQueue};

pub mod apply;
pub use writes::Writes;
