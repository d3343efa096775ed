//! Locustfiles whose tasks are straight HTTP requests, compiled for the native engine; any other is refused with the
//! line that stands in the way.
//!
//! Invariant: what is lifted does what Python would do with it. A construct that is not known in all its effects is
//! never skipped or guessed at; it is the reason why the file stays with Python.

mod class;
mod expression;
mod statement;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use gantry_load::locust::native::{Program, UserPlan, Value};
use ruff_python_ast::{Expr, Stmt};
use ruff_text_size::{Ranged, TextRange};

use self::expression::Scope;

/// Modules whose known functions may be used.
const MODULES: [&str; 5] = ["json", "random", "string", "time", "uuid"];

/// Why a file cannot be lifted: where, and what stands there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Obstacle {
    pub(crate) place: String,
    pub(crate) reason: String,
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

/// An obstacle within a file, before its line is known.
type Found<T> = Result<T, (TextRange, String)>;

/// What a file has made known above the line that is read.
#[derive(Default)]
struct File {
    /// Names of modules, by what they are called here.
    modules: HashMap<String, String>,
    /// Functions of modules: `between` is `locust.between`.
    imported: HashMap<String, String>,
    constants: HashMap<String, Value>,
}

/// Lifts all files together; a class is known by its name.
pub(crate) fn lift(files: &[PathBuf]) -> Result<Program, Obstacle> {
    let mut program = Program::default();
    for path in files {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Obstacle { place: name.clone(), reason: error.to_string() })?;
        for user in lift_text(path, &text)? {
            if program.users.iter().any(|known| known.name == user.name) {
                return Err(Obstacle { place: name, reason: format!("there are two classes {}", user.name) });
            }
            program.users.push(user);
        }
    }
    if program.users.is_empty() {
        let place = files.first().map(|path| path.display().to_string()).unwrap_or_default();
        return Err(Obstacle { place, reason: "no user class with tasks".to_owned() });
    }
    Ok(program)
}

fn lift_text(path: &Path, text: &str) -> Result<Vec<UserPlan>, Obstacle> {
    let at = |range: TextRange, reason: String| {
        let offset = usize::from(range.start()).min(text.len());
        let before = text.get(..offset).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
        Obstacle { place: format!("{}:{line}:{column}", path.display()), reason }
    };
    let parsed = ruff_python_parser::parse_module(text)
        .map_err(|error| at(error.location, format!("not valid Python: {}", error.error)))?;
    let mut file = File::default();
    let mut users = Vec::new();
    for statement in &parsed.syntax().body {
        top_level(&mut file, &mut users, statement).map_err(|(range, reason)| at(range, reason))?;
    }
    Ok(users)
}

fn top_level(file: &mut File, users: &mut Vec<UserPlan>, statement: &Stmt) -> Found<()> {
    match statement {
        Stmt::Pass(_) => Ok(()),
        Stmt::Expr(text) if text.value.is_string_literal_expr() => Ok(()),
        Stmt::Import(import) => {
            for alias in &import.names {
                let module = alias.name.as_str();
                if !MODULES.contains(&module) && module != "locust" {
                    return Err((alias.range, format!("import of {module}, which the native engine does not have")));
                }
                let called = alias.asname.as_ref().unwrap_or(&alias.name);
                file.modules.insert(called.to_string(), module.to_owned());
            }
            Ok(())
        }
        Stmt::ImportFrom(import) => {
            let module = import.module.as_ref().map_or("", |module| module.as_str());
            let known = MODULES.contains(&module) || matches!(module, "locust" | "locust.contrib.fasthttp" | "locust.user.wait_time");
            if import.level > 0 || !known {
                return Err((import.range, format!("import from {module:?}, which the native engine does not have")));
            }
            let module = if module.starts_with("locust") { "locust" } else { module };
            for alias in &import.names {
                let called = alias.asname.as_ref().unwrap_or(&alias.name);
                file.imported.insert(called.to_string(), format!("{module}.{}", alias.name));
            }
            Ok(())
        }
        Stmt::Assign(assign) => {
            let [Expr::Name(name)] = assign.targets.as_slice() else {
                return Err((assign.range, "only a name can be assigned at the top of a file".to_owned()));
            };
            // At import, chance is taken once for all users; here it would be taken at every use.
            let value = file.constant(&assign.value)?;
            file.constants.insert(name.id.to_string(), value);
            Ok(())
        }
        Stmt::ClassDef(class) => {
            users.extend(class::lift(file, class)?);
            Ok(())
        }
        other => Err((other.range(), format!("{} at the top of a file", describe(other)))),
    }
}

// === impl File ===

impl File {
    /// The dotted name that an expression stands for: `locust.task`, `random.randint`.
    fn dotted(&self, expression: &Expr) -> Option<String> {
        match expression {
            Expr::Name(name) => self.imported.get(name.id.as_str()).cloned(),
            Expr::Attribute(attribute) => {
                let Expr::Name(module) = &*attribute.value else { return None };
                let module = self.modules.get(module.id.as_str())?;
                Some(format!("{module}.{}", attribute.attr))
            }
            _ => None,
        }
    }

    /// A value that is the same for the whole run.
    fn constant(&self, expression: &Expr) -> Found<Value> {
        let mut scope = Scope::default();
        let value = expression::value(self, &mut scope, expression)?;
        if is_constant(&value) {
            Ok(value)
        } else {
            Err((expression.range(), "a value of chance that is taken once for the whole run".to_owned()))
        }
    }

    fn constant_number(&self, expression: &Expr) -> Found<f64> {
        match self.constant(expression)? {
            Value::Int(value) => Ok(value as f64),
            Value::Float(value) => Ok(value),
            _ => Err((expression.range(), "expected a number".to_owned())),
        }
    }
}

fn is_constant(value: &Value) -> bool {
    match value {
        Value::Variable(_) | Value::RandInt(..) | Value::Uniform(..) | Value::Choice(_) | Value::Uuid => false,
        Value::Join(items) | Value::List(items) => items.iter().all(is_constant),
        Value::Dict(items) => items.iter().all(|(key, value)| is_constant(key) && is_constant(value)),
        _ => true,
    }
}

/// A statement in a reader's words.
fn describe(statement: &Stmt) -> &'static str {
    match statement {
        Stmt::FunctionDef(_) => "a function",
        Stmt::ClassDef(_) => "a class",
        Stmt::If(_) => "an if",
        Stmt::For(_) => "a for",
        Stmt::While(_) => "a while",
        Stmt::With(_) => "a with",
        Stmt::Try(_) => "a try",
        Stmt::Assert(_) => "an assert",
        Stmt::Raise(_) => "a raise",
        Stmt::Return(_) => "a return of a value",
        Stmt::AugAssign(_) => "an assignment with an operator",
        Stmt::Global(_) | Stmt::Nonlocal(_) => "a global",
        Stmt::Match(_) => "a match",
        Stmt::Delete(_) => "a del",
        _ => "a statement that is not a request",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_load::locust::native::{Body, Step, Wait};

    fn lifted(text: &str) -> Result<Vec<UserPlan>, String> {
        lift_text(Path::new("f.py"), text).map_err(|obstacle| obstacle.to_string())
    }

    const SHOP: &str = r#"
"""A shop."""
import random
from locust import HttpUser, between, task, tag

PRODUCTS = [1, 2, 3]

class Shopper(HttpUser):
    wait_time = between(1, 2.5)
    host = "http://shop.localhost"
    weight = 3

    def on_start(self):
        self.client.post("/login", json={"user": "u", "password": "p"})

    @tag("read")
    @task(3)
    def browse(self):
        product = random.choice(PRODUCTS)
        self.client.get(f"/products/{product}", name="/products/[id]")
        for page in range(1, 3):
            self.client.get("/list?page=" + str(page), headers={"X-Page": f"{page}"})

    @task
    def buy(self):
        with self.client.post("/buy", data={"n": random.randint(1, 5)}) as response:
            pass
"#;

    #[test]
    fn straight_tasks_are_lifted() {
        let users = lifted(SHOP).unwrap();
        let user = &users[0];
        assert_eq!((user.name.as_str(), user.weight, user.wait), ("Shopper", 3.0, Wait::Between(1.0, 2.5)));
        assert_eq!(user.host.as_deref(), Some("http://shop.localhost"));
        assert_eq!((user.on_start.len(), user.tasks.len()), (1, 2));
        let browse = &user.tasks[0];
        assert_eq!((browse.weight, browse.tags.as_slice()), (3, &["read".to_owned()][..]));
        let [Step::Assign(0, Value::Choice(choices)), Step::Request(first), Step::Repeat { steps, .. }] = browse.steps.as_slice() else {
            panic!("{:?}", browse.steps)
        };
        assert_eq!((choices.len(), steps.len()), (3, 1));
        assert_eq!(first.path, Value::Join(vec![Value::Text("/products/".into()), Value::Variable(0)]));
        assert_eq!(first.name, Some(Value::Text("/products/[id]".into())));
        let [Step::Request(buy)] = user.tasks[1].steps.as_slice() else { panic!("{:?}", user.tasks[1].steps) };
        assert!(matches!(&buy.body, Body::Data(Value::Dict(_))), "{buy:?}");
    }

    #[test]
    fn what_stands_in_the_way_is_named_with_its_place() {
        for (line, reason) in [
            ("        r = self.client.get('/'); print(r.text)", "f.py:6:35: a call of print"),
            ("        if self.x: pass", "f.py:6:9: an if"),
            ("        self.client.get(self.path())", "f.py:6:25: a call"),
            ("        self.client.get('/', verify=False)", "f.py:6:30: the argument verify"),
            ("        self.client.get('http://other/')", "f.py:6:25: a whole URL"),
            ("        x = unknown", "f.py:6:13: unknown, which is not known here"),
            ("        r = self.client.get('/')\n        self.client.get(f'/{r.text}')", "f.py:7:29"),
        ] {
            let text = format!("from locust import HttpUser, task\nclass U(HttpUser):\n\n    @task\n    def t(self):\n{line}\n");
            let error = lifted(&text).unwrap_err();
            assert!(error.starts_with(reason), "{line}: {error}");
        }
        let error = lifted("import requests\n").unwrap_err();
        assert_eq!(error, "f.py:1:8: import of requests, which the native engine does not have");
        assert!(lifted("class :\n").unwrap_err().starts_with("f.py:1:7: not valid Python"));
    }
}
