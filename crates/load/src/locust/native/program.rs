//! What native users do, as data: the classes of a locustfile whose tasks are straight requests.

use super::super::message::{ClassDescription, Described, TaskDescription};
use super::value::Value;

/// The users of one or more locustfiles.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    pub users: Vec<UserPlan>,
}

/// A user class.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserPlan {
    pub name: String,
    pub weight: f64,
    pub fixed_count: u64,
    pub host: Option<String>,
    pub wait: Wait,
    pub on_start: Vec<Step>,
    pub on_stop: Vec<Step>,
    pub tasks: Vec<Task>,
    /// How many variables its methods have.
    pub variables: usize,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Task {
    pub name: String,
    pub weight: u32,
    pub tags: Vec<String>,
    pub steps: Vec<Step>,
}

/// Seconds between a task and the next.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Wait {
    #[default]
    None,
    Constant(f64),
    Between(f64, f64),
    /// Tasks begin this far apart, if they do not take longer.
    Pacing(f64),
    /// Exponentially distributed, at so many per second.
    Poisson(f64),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Request(Box<RequestPlan>),
    Sleep(Value),
    /// The user's own wait time, within a task.
    Wait,
    Assign(usize, Value),
    /// For every whole number from one (included) to another (not included).
    Repeat { variable: usize, from: Value, to: Value, steps: Vec<Step> },
}

#[derive(Clone, Debug, PartialEq)]
pub struct RequestPlan {
    pub method: String,
    pub path: Value,
    pub name: Option<Value>,
    pub params: Option<Value>,
    pub headers: Vec<(String, Value)>,
    pub body: Body,
    pub follow_redirects: bool,
    /// Seconds; none waits as long as it takes.
    pub timeout: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Body {
    #[default]
    None,
    Json(Value),
    /// A dict is a form, a string is sent as it is.
    Data(Value),
}

// === impl Program ===

impl Program {
    /// What a master needs to know.
    pub fn described(&self) -> Described {
        let classes = self.users.iter().map(|user| ClassDescription {
            name: user.name.clone(),
            weight: user.weight,
            fixed_count: user.fixed_count,
            host: user.host.clone(),
            tasks: user.tasks.iter().map(TaskDescription::from).collect(),
        });
        Described { classes: classes.collect(), shapes: Vec::new() }
    }

    /// Only tasks with one of the tags (when any are named) and none of the others; classes without a task go.
    pub fn with_tags(&self, tags: Option<&[String]>, exclude: Option<&[String]>) -> Program {
        let among = |task: &Task, list: &[String]| task.tags.iter().any(|tag| list.contains(tag));
        let wanted = |task: &Task| {
            tags.is_none_or(|tags| tags.is_empty() || among(task, tags)) && !exclude.is_some_and(|list| among(task, list))
        };
        let users = self.users.iter().map(|user| {
            let tasks = user.tasks.iter().filter(|task| wanted(task)).cloned().collect();
            UserPlan { tasks, ..user.clone() }
        });
        Program { users: users.filter(|user| !user.tasks.is_empty()).collect() }
    }
}

impl From<&Task> for TaskDescription {
    fn from(task: &Task) -> TaskDescription {
        TaskDescription { name: task.name.clone(), count: u64::from(task.weight), tasks: Vec::new() }
    }
}
