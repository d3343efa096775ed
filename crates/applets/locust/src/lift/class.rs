//! User classes: their attributes, their `on_start` and `on_stop`, their tasks.

use gantry_load::locust::native::{Task, UserPlan, Value, Wait};
use ruff_python_ast::{Expr, Stmt, StmtClassDef, StmtFunctionDef};
use ruff_text_size::Ranged;

use super::expression::Scope;
use super::{File, Found, describe, statement};

/// The class as a plan; nothing when it is abstract or has no task of its own to be started for.
pub(super) fn lift(file: &File, class: &StmtClassDef) -> Found<Option<UserPlan>> {
    let bases = class.arguments.as_ref().map(|arguments| &*arguments.args).unwrap_or_default();
    let keywords = class.arguments.as_ref().is_some_and(|arguments| !arguments.keywords.is_empty());
    let base = match bases {
        [base] if !keywords && class.decorator_list.is_empty() => file.dotted(base),
        _ => None,
    };
    if !matches!(base.as_deref(), Some("locust.HttpUser" | "locust.FastHttpUser")) {
        return Err((class.name.range, format!("class {}, which is not directly an HttpUser or FastHttpUser", class.name)));
    }
    let mut plan = UserPlan { name: class.name.to_string(), weight: 1.0, ..UserPlan::default() };
    let mut scope = Scope::default();
    let mut is_abstract = false;
    for statement in &class.body {
        match statement {
            Stmt::Pass(_) => {}
            Stmt::Expr(text) if text.value.is_string_literal_expr() => {}
            Stmt::Assign(assign) => {
                let [Expr::Name(name)] = assign.targets.as_slice() else {
                    return Err((assign.range, "an assignment to more than a name".to_owned()));
                };
                attribute(file, &mut plan, &mut is_abstract, name.id.as_str(), &assign.value)?;
            }
            Stmt::FunctionDef(function) => method(file, &mut scope, &mut plan, function)?,
            other => return Err((other.range(), format!("{} in a class", describe(other)))),
        }
    }
    plan.variables = scope.variables();
    if is_abstract || plan.weight == 0.0 {
        return Ok(None);
    }
    if plan.tasks.is_empty() {
        return Err((class.name.range, format!("class {} without a method marked @task", class.name)));
    }
    Ok(Some(plan))
}

fn attribute(file: &File, plan: &mut UserPlan, is_abstract: &mut bool, name: &str, value: &Expr) -> Found<()> {
    match name {
        "wait_time" => plan.wait = wait(file, value)?,
        "host" => match file.constant(value)? {
            Value::Text(host) => plan.host = Some(host).filter(|host| !host.is_empty()),
            _ => return Err((value.range(), "host: expected a text".to_owned())),
        },
        "weight" => plan.weight = file.constant_number(value)?,
        "fixed_count" => plan.fixed_count = file.constant_number(value)? as u64,
        "abstract" => match file.constant(value)? {
            Value::Bool(value) => *is_abstract = value,
            _ => return Err((value.range(), "abstract: expected True or False".to_owned())),
        },
        other => return Err((value.range(), format!("the attribute {other} of a class"))),
    }
    Ok(())
}

fn wait(file: &File, value: &Expr) -> Found<Wait> {
    let wrong = || (value.range(), "a wait_time that is none of Locust's own".to_owned());
    let Expr::Call(call) = value else { return Err(wrong()) };
    let function = file.dotted(&call.func).ok_or_else(wrong)?;
    if !call.arguments.keywords.is_empty() {
        return Err(wrong());
    }
    let numbers: Vec<f64> = call.arguments.args.iter().map(|value| file.constant_number(value)).collect::<Result<_, _>>()?;
    let positive = |number: f64| if number > 0.0 { Ok(number) } else { Err(wrong()) };
    match (function.as_str(), numbers.as_slice()) {
        ("locust.between", [least, most]) => Ok(Wait::Between(*least, *most)),
        ("locust.constant", [time]) => Ok(Wait::Constant(*time)),
        ("locust.constant_pacing", [time]) => Ok(Wait::Pacing(*time)),
        ("locust.constant_throughput", [rate]) => Ok(Wait::Pacing(1.0 / positive(*rate)?)),
        ("locust.poisson", [rate]) => Ok(Wait::Poisson(positive(*rate)?)),
        _ => Err(wrong()),
    }
}

fn method(file: &File, scope: &mut Scope, plan: &mut UserPlan, function: &StmtFunctionDef) -> Found<()> {
    let name = function.name.as_str();
    let parameters = &function.parameters;
    let only_self = parameters.args.len() == 1
        && parameters.vararg.is_none()
        && parameters.kwarg.is_none()
        && parameters.kwonlyargs.is_empty()
        && parameters.posonlyargs.is_empty();
    if function.is_async || !only_self {
        return Err((function.name.range, format!("the method {name}, which takes more than self")));
    }
    let (mut weight, mut tags) = (None, Vec::new());
    for decorator in &function.decorator_list {
        let (called, arguments) = match &decorator.expression {
            Expr::Call(call) if call.arguments.keywords.is_empty() => (&*call.func, Some(&call.arguments.args)),
            other => (other, None),
        };
        match (file.dotted(called).as_deref(), arguments) {
            (Some("locust.task"), None) => weight = Some(1),
            (Some("locust.task"), Some(arguments)) => {
                let number = match &**arguments {
                    [] => 1.0,
                    [number] => file.constant_number(number)?,
                    _ => return Err((decorator.range, "@task with more than a weight".to_owned())),
                };
                if number < 0.0 || number.fract() != 0.0 || number > 1e6 {
                    return Err((decorator.range, "@task: expected a whole weight".to_owned()));
                }
                weight = Some(number as u32);
            }
            (Some("locust.tag"), Some(arguments)) => {
                for tag in arguments {
                    match file.constant(tag)? {
                        Value::Text(tag) => tags.push(tag),
                        _ => return Err((tag.range(), "@tag: expected texts".to_owned())),
                    }
                }
            }
            _ => return Err((decorator.range, "a decorator that is not @task or @tag".to_owned())),
        }
    }
    // Each method has variables of its own.
    scope.begin_method(parameters.args.first().map_or("self", |own| own.parameter.name.as_str()));
    match (weight, name) {
        (Some(0), _) => {}
        (Some(weight), _) => {
            let steps = statement::block(file, scope, &function.body)?;
            plan.tasks.push(Task { name: name.to_owned(), weight, tags, steps });
        }
        (None, "on_start") => plan.on_start = statement::block(file, scope, &function.body)?,
        (None, "on_stop") => plan.on_stop = statement::block(file, scope, &function.body)?,
        (None, other) => return Err((function.name.range, format!("the method {other}, which is no task"))),
    }
    Ok(())
}
