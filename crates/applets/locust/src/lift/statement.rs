//! Statements of a task: requests, sleeps, assignments, loops over a range.

use gantry_load::locust::native::{Body, RequestPlan, Step, Value};
use ruff_python_ast::{Expr, ExprCall, Stmt};
use ruff_text_size::Ranged;

use super::expression::{Scope, value};
use super::{File, Found, describe};

const METHODS: [&str; 7] = ["get", "post", "put", "patch", "delete", "head", "options"];

pub(super) fn block(file: &File, scope: &mut Scope, statements: &[Stmt]) -> Found<Vec<Step>> {
    let mut steps = Vec::new();
    for (index, statement) in statements.iter().enumerate() {
        // A return without a value at the end changes nothing.
        if matches!(statement, Stmt::Return(last) if last.value.is_none() && index + 1 == statements.len()) {
            break;
        }
        steps.extend(lift(file, scope, statement)?);
    }
    Ok(steps)
}

fn lift(file: &File, scope: &mut Scope, statement: &Stmt) -> Found<Vec<Step>> {
    match statement {
        Stmt::Pass(_) => Ok(Vec::new()),
        Stmt::Expr(text) if text.value.is_string_literal_expr() => Ok(Vec::new()),
        Stmt::Expr(expression) => match &*expression.value {
            Expr::Call(call) => self::call(file, scope, call).map(|step| vec![step]),
            other => Err((other.range(), "an expression that is no call".to_owned())),
        },
        Stmt::Assign(assign) => {
            let [Expr::Name(name)] = assign.targets.as_slice() else {
                return Err((assign.range, "an assignment to more than a name".to_owned()));
            };
            if let Expr::Call(call) = &*assign.value
                && request_method(scope, call).is_some()
            {
                let step = self::call(file, scope, call)?;
                // The answer is not kept: whatever looks at it finds no such name.
                scope.forget(name.id.as_str());
                return Ok(vec![step]);
            }
            let value = value(file, scope, &assign.value)?;
            let variable = scope.variable(name.id.as_str());
            Ok(vec![Step::Assign(variable, value)])
        }
        Stmt::With(with) => {
            let [item] = with.items.as_slice() else {
                return Err((with.range, "a with of more than one request".to_owned()));
            };
            let Expr::Call(call) = &item.context_expr else {
                return Err((with.range, "a with that is no request".to_owned()));
            };
            if with.is_async || request_method(scope, call).is_none() {
                return Err((with.range, "a with that is no request".to_owned()));
            }
            let first = self::call(file, scope, call)?;
            if let Some(Expr::Name(name)) = item.optional_vars.as_deref() {
                scope.forget(name.id.as_str());
            }
            let mut steps = vec![first];
            steps.extend(block(file, scope, &with.body)?);
            Ok(steps)
        }
        Stmt::For(repeat) => {
            let Expr::Name(name) = &*repeat.target else {
                return Err((repeat.range, "a for over more than one name".to_owned()));
            };
            if repeat.is_async || !repeat.orelse.is_empty() {
                return Err((repeat.range, "a for with else".to_owned()));
            }
            let (from, to) = range(file, scope, &repeat.iter)?;
            let variable = scope.variable(name.id.as_str());
            let steps = block(file, scope, &repeat.body)?;
            Ok(vec![Step::Repeat { variable, from, to, steps }])
        }
        other => Err((other.range(), describe(other).to_owned())),
    }
}

fn range(file: &File, scope: &mut Scope, expression: &Expr) -> Found<(Value, Value)> {
    let wrong = || (expression.range(), "a for over something else than range(…)".to_owned());
    let Expr::Call(call) = expression else { return Err(wrong()) };
    let is_range = matches!(&*call.func, Expr::Name(name) if name.id.as_str() == "range");
    if !is_range || !call.arguments.keywords.is_empty() {
        return Err(wrong());
    }
    match &*call.arguments.args {
        [to] => Ok((Value::Int(0), whole(file, scope, to)?)),
        [from, to] => Ok((whole(file, scope, from)?, whole(file, scope, to)?)),
        _ => Err(wrong()),
    }
}

fn whole(file: &File, scope: &mut Scope, expression: &Expr) -> Found<Value> {
    match value(file, scope, expression)? {
        value @ (Value::Int(_) | Value::RandInt(..)) => Ok(value),
        _ => Err((expression.range(), "range: expected whole numbers".to_owned())),
    }
}

/// `get` for `self.client.get(…)`.
fn request_method<'a>(scope: &Scope, call: &'a ExprCall) -> Option<&'a str> {
    let Expr::Attribute(method) = &*call.func else { return None };
    let Expr::Attribute(client) = &*method.value else { return None };
    let is_client = client.attr.as_str() == "client" && scope.is_self(&client.value);
    is_client.then(|| method.attr.as_str()).filter(|name| METHODS.contains(name))
}

fn call(file: &File, scope: &mut Scope, call: &ExprCall) -> Found<Step> {
    if let Some(method) = request_method(scope, call) {
        return request(file, scope, method, call).map(|plan| Step::Request(Box::new(plan)));
    }
    let arguments = &call.arguments;
    if let Expr::Attribute(method) = &*call.func
        && scope.is_self(&method.value)
        && method.attr.as_str() == "wait"
        && arguments.args.is_empty()
    {
        return Ok(Step::Wait);
    }
    match (file.dotted(&call.func).as_deref(), &*arguments.args) {
        (Some("time.sleep"), [time]) if arguments.keywords.is_empty() => {
            let time = value(file, scope, time)?;
            match time {
                Value::Int(_) | Value::Float(_) | Value::RandInt(..) | Value::Uniform(..) => Ok(Step::Sleep(time)),
                _ => Err((call.range(), "time.sleep: expected a number".to_owned())),
            }
        }
        _ => Err((call.range(), format!("a call of {}", super::expression::words(&call.func)))),
    }
}

fn request(file: &File, scope: &mut Scope, method: &str, call: &ExprCall) -> Found<RequestPlan> {
    let mut plan = RequestPlan {
        method: method.to_ascii_uppercase(),
        path: Value::None,
        name: None,
        params: None,
        headers: Vec::new(),
        body: Body::None,
        follow_redirects: method != "head",
        timeout: None,
    };
    let mut positional = call.arguments.args.iter();
    let path = positional.next().ok_or_else(|| (call.range(), "a request without a path".to_owned()))?;
    plan.path = value(file, scope, path)?;
    let first = match &plan.path {
        Value::Text(text) => Some(text),
        Value::Join(items) => match items.first() {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        },
        _ => None,
    };
    match first {
        Some(text) if text.contains("://") => return Err((path.range(), "a whole URL instead of a path".to_owned())),
        Some(text) if text.starts_with('/') || text.is_empty() => {}
        _ => return Err((path.range(), "a path that may not begin with a slash".to_owned())),
    }
    for (index, argument) in positional.enumerate() {
        // post(url, data, json): the other methods take no more than a path by place.
        match (method, index) {
            ("post", 0) => plan.body = Body::Data(value(file, scope, argument)?),
            ("post", 1) => plan.body = Body::Json(value(file, scope, argument)?),
            ("put" | "patch", 0) => plan.body = Body::Data(value(file, scope, argument)?),
            _ => return Err((argument.range(), "more arguments by place than a path".to_owned())),
        }
    }
    for keyword in &call.arguments.keywords {
        let name = keyword.arg.as_ref().map_or("**", |name| name.as_str());
        let mut given = || value(file, scope, &keyword.value);
        match name {
            "name" => plan.name = Some(given()?),
            "json" => plan.body = Body::Json(given()?),
            "data" => plan.body = Body::Data(given()?),
            "params" => plan.params = Some(given()?),
            "headers" => {
                let Value::Dict(items) = given()? else {
                    return Err((keyword.value.range(), "headers: expected a dict".to_owned()));
                };
                for (name, value) in items {
                    match name {
                        Value::Text(name) => plan.headers.push((name, value)),
                        _ => return Err((keyword.value.range(), "headers: expected names as texts".to_owned())),
                    }
                }
            }
            "timeout" => plan.timeout = Some(file.constant_number(&keyword.value)?),
            "allow_redirects" => match given()? {
                Value::Bool(follow) => plan.follow_redirects = follow,
                _ => return Err((keyword.value.range(), "allow_redirects: expected True or False".to_owned())),
            },
            // Without a look at the answer it changes nothing.
            "catch_response" if matches!(given()?, Value::Bool(false)) => {}
            other => return Err((keyword.range, format!("the argument {other} of a request"))),
        }
    }
    Ok(plan)
}
