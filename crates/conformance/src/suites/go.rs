//! The little Go that reference tests are written in: statements as the data folder lists them, run over a host's types.
//!
//! Only what those statements use is understood: declarations, calls, literals, arithmetic, counting loops and assertions.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// A value; `T` are the host's objects.
pub(crate) enum Go<T> {
    Nil,
    Bool(bool),
    /// Integers, floats, and durations in milliseconds.
    Number(f64),
    Text(String),
    /// Milliseconds since the Unix epoch.
    Time(i64),
    /// A struct, a map, or a slice with its indices as keys.
    Fields(BTreeMap<String, Go<T>>),
    Several(Vec<Go<T>>),
    Error(String),
    Object(Rc<RefCell<T>>),
}

impl<T> Clone for Go<T> {
    fn clone(&self) -> Go<T> {
        match self {
            Go::Nil => Go::Nil,
            Go::Bool(value) => Go::Bool(*value),
            Go::Number(value) => Go::Number(*value),
            Go::Text(value) => Go::Text(value.clone()),
            Go::Time(value) => Go::Time(*value),
            Go::Fields(fields) => Go::Fields(fields.clone()),
            Go::Several(values) => Go::Several(values.clone()),
            Go::Error(error) => Go::Error(error.clone()),
            Go::Object(object) => Go::Object(object.clone()),
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, String>;

/// What the statements talk about beside the language.
pub(crate) trait Host: Sized {
    type Object;
    /// A name that is no variable: a constant.
    fn constant(&self, name: &str) -> Option<Go<Self::Object>>;
    fn call(&mut self, name: &str, args: Vec<Go<Self::Object>>) -> Result<Go<Self::Object>>;
    fn method(
        &mut self,
        receiver: &Rc<RefCell<Self::Object>>,
        name: &str,
        args: Vec<Go<Self::Object>>,
    ) -> Result<Go<Self::Object>>;
    fn field(&self, receiver: &Rc<RefCell<Self::Object>>, name: &str) -> Result<Go<Self::Object>>;
    /// `Type{…}`; most are just their fields.
    fn literal(
        &mut self,
        _type: &str,
        fields: BTreeMap<String, Go<Self::Object>>,
    ) -> Result<Go<Self::Object>> {
        Ok(Go::Fields(fields))
    }
}

/// Runs the statements of one test.
pub(crate) fn run<H: Host>(
    host: &mut H,
    variables: &mut BTreeMap<String, Go<H::Object>>,
    statements: &[serde_json::Value],
) -> Result<()> {
    let mut header: Option<&str> = None;
    for statement in statements {
        match (statement.as_str(), statement["loop"].as_str(), statement["stmt_block"].as_str()) {
            (Some(text), ..) => execute(host, variables, text)?,
            (_, Some(text), _) => header = Some(text),
            (_, _, Some(block)) => {
                let header = header.take().ok_or("a block without a header")?;
                repeat(host, variables, header, block)?;
            }
            _ => return Err(format!("not understood: {statement}")),
        }
    }
    Ok(())
}

/// `for i := 1; i <= 4; i++ { … }`.
fn repeat<H: Host>(
    host: &mut H,
    variables: &mut BTreeMap<String, Go<H::Object>>,
    header: &str,
    block: &str,
) -> Result<()> {
    const MOST_ROUNDS: usize = 1_000_000;
    let header = header.strip_prefix("for ").ok_or("not a loop")?;
    let [begin, condition, step] = header.split(';').map(str::trim).collect::<Vec<_>>()[..] else {
        return Err(format!("loop not understood: {header}"));
    };
    execute(host, variables, begin)?;
    let body = block.trim().trim_start_matches('{').trim_end_matches('}');
    for _ in 0..MOST_ROUNDS {
        match evaluate(host, variables, condition)? {
            Go::Bool(true) => {}
            Go::Bool(false) => return Ok(()),
            _ => return Err(format!("{condition} is no condition")),
        }
        for line in statements_of(body) {
            execute(host, variables, &line)?;
        }
        match step.strip_suffix("++") {
            Some(name) => execute(host, variables, &format!("{name} = {name} + 1"))?,
            None => {
                let (name, by) = step.split_once("+=").ok_or("step not understood")?;
                execute(host, variables, &format!("{name} = {name} + ({by})"))?;
            }
        }
    }
    Err("the loop does not end".into())
}

/// Lines, joined where a bracket is open.
fn statements_of(body: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let (mut current, mut open) = (String::new(), 0i32);
    for line in body.lines() {
        open += line
            .chars()
            .map(|c| match c {
                '(' | '{' | '[' => 1,
                ')' | '}' | ']' => -1,
                _ => 0,
            })
            .sum::<i32>();
        current.push_str(line);
        current.push('\n');
        if open <= 0 {
            if !current.trim().is_empty() {
                statements.push(std::mem::take(&mut current));
            }
            current.clear();
            open = 0;
        }
    }
    statements
}

fn execute<H: Host>(host: &mut H, variables: &mut BTreeMap<String, Go<H::Object>>, text: &str) -> Result<()> {
    let tokens = tokens(text)?;
    // `a, b := x` and `a = x`: an assignment sign outside all brackets.
    let mut depth = 0;
    let sign = tokens.iter().position(|token| {
        match token.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        depth == 0 && matches!(token.as_str(), ":=" | "=")
    });
    let Some(sign) = sign else {
        Parser { host, variables, tokens: &tokens, at: 0 }.whole()?;
        return Ok(());
    };
    let names: Vec<String> = tokens[..sign].iter().filter(|token| *token != ",").cloned().collect();
    let mut parser = Parser { host, variables, tokens: &tokens[sign + 1..], at: 0 };
    let mut values = vec![parser.expression(0)?];
    while parser.take(",") {
        values.push(parser.expression(0)?);
    }
    parser.end()?;
    if let [Go::Several(several)] = &values[..] {
        values = several.clone();
    }
    if values.len() != names.len() {
        return Err(format!("{} values for {} names: {text}", values.len(), names.len()));
    }
    for (name, value) in names.into_iter().zip(values) {
        variables.insert(name, value);
    }
    Ok(())
}

pub(crate) fn evaluate<H: Host>(
    host: &mut H,
    variables: &mut BTreeMap<String, Go<H::Object>>,
    text: &str,
) -> Result<Go<H::Object>> {
    let tokens = tokens(text)?;
    Parser { host, variables, tokens: &tokens, at: 0 }.whole()
}

// === reading and computing at once ===

fn tokens(text: &str) -> Result<Vec<String>> {
    let mut tokens = Vec::new();
    let chars: Vec<char> = text.chars().collect();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let next = chars.get(at + 1).copied().unwrap_or(' ');
        let start = at;
        if c.is_whitespace() {
            at += 1;
            continue;
        } else if c == '/' && next == '/' {
            while chars.get(at).is_some_and(|c| *c != '\n') {
                at += 1;
            }
            continue;
        } else if c == '/' && next == '*' {
            while at < chars.len() && !(chars[at] == '*' && chars.get(at + 1) == Some(&'/')) {
                at += 1;
            }
            at += 2;
            continue;
        } else if c == '"' {
            at += 1;
            while chars.get(at).is_some_and(|c| *c != '"') {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if c.is_ascii_digit() || (c == '.' && next.is_ascii_digit()) {
            while let Some(d) = chars.get(at) {
                let signed = matches!(d, '+' | '-') && matches!(chars[at - 1], 'e' | 'E') && at > start;
                if !d.is_ascii_alphanumeric() && *d != '.' && *d != '_' && !signed {
                    break;
                }
                at += 1;
            }
        } else if c.is_alphanumeric() || c == '_' {
            while chars.get(at).is_some_and(|c| c.is_alphanumeric() || *c == '_') {
                at += 1;
            }
        } else {
            let two: String = [c, next].iter().collect();
            at += if [":=", "==", "!=", "<=", ">=", "&&", "||"].contains(&two.as_str()) { 2 } else { 1 };
        }
        tokens.push(chars.get(start..at).ok_or("text ends too early")?.iter().collect());
    }
    Ok(tokens)
}

struct Parser<'a, H: Host> {
    host: &'a mut H,
    variables: &'a mut BTreeMap<String, Go<H::Object>>,
    tokens: &'a [String],
    at: usize,
}

impl<H: Host> Parser<'_, H> {
    fn peek(&self) -> &str {
        self.tokens.get(self.at).map_or("", String::as_str)
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.peek() == token;
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, token: &str) -> Result<()> {
        if self.take(token) { Ok(()) } else { Err(format!("expected {token:?}, found {:?}", self.peek())) }
    }

    fn end(&self) -> Result<()> {
        if self.at == self.tokens.len() {
            Ok(())
        } else {
            Err(format!("not understood from {:?}", self.peek()))
        }
    }

    fn whole(&mut self) -> Result<Go<H::Object>> {
        let value = self.expression(0)?;
        self.end()?;
        Ok(value)
    }

    fn expression(&mut self, least: u8) -> Result<Go<H::Object>> {
        let mut left = self.unary()?;
        loop {
            let operator = self.peek().to_owned();
            let binds = match operator.as_str() {
                "==" | "!=" | "<" | "<=" | ">" | ">=" => 1,
                "+" | "-" => 2,
                "*" | "/" => 3,
                _ => return Ok(left),
            };
            if binds <= least {
                return Ok(left);
            }
            self.at += 1;
            let right = self.expression(binds)?;
            left = binary(&operator, &left, &right)?;
        }
    }

    fn unary(&mut self) -> Result<Go<H::Object>> {
        if self.take("-") {
            return match self.unary()? {
                Go::Number(number) => Ok(Go::Number(-number)),
                _ => Err("- of no number".into()),
            };
        }
        if self.take("&") || self.take("*") {
            return self.unary();
        }
        let mut value = self.operand()?;
        loop {
            if self.take(".") {
                if self.take("(") {
                    // A type assertion changes nothing here.
                    while !self.take(")") {
                        self.at += 1;
                    }
                    continue;
                }
                let name = self.peek().to_owned();
                self.at += 1;
                value = if self.take("(") {
                    let args = self.arguments(")")?;
                    self.method(&value, &name, args)?
                } else {
                    self.field(&value, &name)?
                };
            } else if self.take("[") {
                let index = self.expression(0)?;
                self.expect("]")?;
                value = match &value {
                    Go::Fields(fields) => fields.get(&key(&index)?).cloned().unwrap_or(Go::Number(0.0)),
                    _ => return Err("an index into what has none".into()),
                };
            } else {
                return Ok(value);
            }
        }
    }

    fn operand(&mut self) -> Result<Go<H::Object>> {
        let token = self.peek().to_owned();
        self.at += 1;
        let first = token.chars().next().ok_or("an operand is missing")?;
        if token == "(" {
            let value = self.expression(0)?;
            self.expect(")")?;
            return Ok(value);
        }
        if first == '"' {
            return Ok(Go::Text(token.trim_matches('"').to_owned()));
        }
        if first.is_ascii_digit() || first == '.' {
            let number = token.replace('_', "");
            return number.parse().map(Go::Number).map_err(|_| format!("{token} is no number"));
        }
        if token == "[" || token == "map" {
            // `[]T{…}`, `map[K]V{…}`: the types do not matter.
            while !matches!(self.peek(), "{" | "" | "," | ")") {
                self.at += 1;
            }
            if self.take("{") {
                return Ok(Go::Fields(self.elements()?));
            }
            return Ok(Go::Nil);
        }
        match token.as_str() {
            "true" | "false" => return Ok(Go::Bool(token == "true")),
            "nil" => return Ok(Go::Nil),
            _ => {}
        }
        if let Some(value) = self.variables.get(&token) {
            return Ok(value.clone());
        }
        // `package.Name`, a constant, a function or a type.
        let mut name = token;
        loop {
            if let Some(value) = self.host.constant(&name) {
                return Ok(value);
            }
            if self.take("(") {
                let args = self.arguments(")")?;
                return match name.strip_prefix("assert.") {
                    Some(assertion) => assert(assertion, &args).map(|()| Go::Nil),
                    None => self.host.call(&name, args),
                };
            }
            if self.take("{") {
                let fields = self.elements()?;
                return self.host.literal(&name, fields);
            }
            if !self.take(".") {
                return Err(format!("{name} is not known"));
            }
            name = format!("{name}.{}", self.peek());
            self.at += 1;
        }
    }

    fn arguments(&mut self, close: &str) -> Result<Vec<Go<H::Object>>> {
        let mut args = Vec::new();
        while !self.take(close) {
            // The `t` of a test.
            if self.peek() == "t" && !self.variables.contains_key("t") {
                self.at += 1;
            } else {
                args.push(self.expression(0)?);
            }
            if !self.take(",") && self.peek() != close {
                return Err(format!("expected {close:?}, found {:?}", self.peek()));
            }
        }
        Ok(args)
    }

    fn elements(&mut self) -> Result<BTreeMap<String, Go<H::Object>>> {
        let mut fields = BTreeMap::new();
        while !self.take("}") {
            let is_named = self.tokens.get(self.at + 1).is_some_and(|token| token == ":");
            let name = if is_named && !self.peek().starts_with(|c: char| c.is_ascii_digit() || c == '"') {
                let name = self.peek().to_owned();
                self.at += 1;
                name
            } else {
                let value = self.expression(0)?;
                if self.peek() != ":" {
                    fields.insert(fields.len().to_string(), value);
                    self.take(",");
                    continue;
                }
                key(&value)?
            };
            self.expect(":")?;
            let value = self.expression(0)?;
            fields.insert(name, value);
            self.take(",");
        }
        Ok(fields)
    }

    fn method(
        &mut self,
        receiver: &Go<H::Object>,
        name: &str,
        args: Vec<Go<H::Object>>,
    ) -> Result<Go<H::Object>> {
        match (receiver, name, args.as_slice()) {
            (Go::Object(object), ..) => self.host.method(object, name, args),
            (Go::Time(at), "Add", [Go::Number(by)]) => Ok(Go::Time(at + *by as i64)),
            (Go::Time(at), "Sub", [Go::Time(from)]) => Ok(Go::Number((at - from) as f64)),
            _ => Err(format!("method {name} of what has none")),
        }
    }

    fn field(&mut self, receiver: &Go<H::Object>, name: &str) -> Result<Go<H::Object>> {
        match receiver {
            Go::Object(object) => self.host.field(object, name),
            Go::Fields(fields) => fields.get(name).cloned().ok_or_else(|| format!("no field {name}")),
            // `metav1.Time` holds a time.
            Go::Time(at) if name == "Time" => Ok(Go::Time(*at)),
            _ => Err(format!("field {name} of what has none")),
        }
    }
}

fn key<T>(value: &Go<T>) -> Result<String> {
    match value {
        Go::Number(number) => Ok(number.to_string()),
        Go::Text(text) => Ok(text.clone()),
        _ => Err("a key that is neither a number nor a text".into()),
    }
}

fn binary<T>(operator: &str, left: &Go<T>, right: &Go<T>) -> Result<Go<T>> {
    if let "==" | "!=" = operator {
        return Ok(Go::Bool(equal(left, right) == (operator == "==")));
    }
    let (Go::Number(a), Go::Number(b)) = (left, right) else {
        return Err(format!("{operator} of what is no number"));
    };
    Ok(match operator {
        "+" => Go::Number(a + b),
        "-" => Go::Number(a - b),
        "*" => Go::Number(a * b),
        "/" => Go::Number(a / b),
        "<" => Go::Bool(a < b),
        "<=" => Go::Bool(a <= b),
        ">" => Go::Bool(a > b),
        _ => Go::Bool(a >= b),
    })
}

fn equal<T>(a: &Go<T>, b: &Go<T>) -> bool {
    match (a, b) {
        (Go::Nil, Go::Nil) => true,
        (Go::Bool(a), Go::Bool(b)) => a == b,
        // Products of literals are exact in Go and rounded here.
        (Go::Number(a), Go::Number(b)) => a == b || (a - b).abs() <= a.abs() * 1e-15,
        (Go::Text(a), Go::Text(b)) => a == b,
        (Go::Time(a), Go::Time(b)) => a == b,
        (Go::Fields(a), Go::Fields(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        (Go::Object(a), Go::Object(b)) => Rc::ptr_eq(a, b),
        _ => false,
    }
}

fn shown<T>(value: &Go<T>) -> String {
    match value {
        Go::Nil => "nil".into(),
        Go::Bool(value) => value.to_string(),
        Go::Number(value) => value.to_string(),
        Go::Text(value) => format!("{value:?}"),
        Go::Time(value) => format!("time {value}"),
        Go::Fields(fields) => {
            let fields: Vec<String> = fields.iter().map(|(k, v)| format!("{k}: {}", shown(v))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        Go::Several(values) => values.iter().map(shown).collect::<Vec<_>>().join(", "),
        Go::Error(error) => format!("error {error}"),
        Go::Object(_) => "an object".into(),
    }
}

fn assert<T>(name: &str, args: &[Go<T>]) -> Result<()> {
    let is_zero = |value: &Go<T>| match value {
        Go::Nil => true,
        Go::Bool(value) => !value,
        Go::Number(value) => *value == 0.0,
        Go::Text(text) => text.is_empty(),
        Go::Fields(fields) => fields.is_empty(),
        _ => false,
    };
    let holds = match (name.trim_end_matches('f'), args) {
        ("Equal", [expected, actual, ..]) => equal(expected, actual),
        ("NotEqual", [expected, actual, ..]) => !equal(expected, actual),
        ("True", [Go::Bool(value), ..]) => *value,
        ("False", [Go::Bool(value), ..]) => !value,
        ("Nil" | "NoError", [value, ..]) => matches!(value, Go::Nil),
        ("Error", [value, ..]) => matches!(value, Go::Error(_)),
        ("NotEmpty" | "NotZero", [value, ..]) => !is_zero(value),
        ("InEpsilon", [Go::Number(expected), Go::Number(actual), Go::Number(epsilon), ..]) => {
            ((expected - actual) / expected).abs() <= *epsilon
        }
        ("Len", [Go::Fields(fields), Go::Number(length), ..]) => fields.len() as f64 == *length,
        ("Contains", [Go::Fields(fields), wanted, ..]) => fields.contains_key(&key(wanted)?),
        ("NotContains", [Go::Fields(fields), unwanted, ..]) => !fields.contains_key(&key(unwanted)?),
        _ => return Err(format!("assertion {name} not understood")),
    };
    if holds {
        return Ok(());
    }
    let args: Vec<String> = args.iter().map(shown).collect();
    Err(format!("{name}({})", args.join(", ")))
}
