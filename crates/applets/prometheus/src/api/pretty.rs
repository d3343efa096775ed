//! Long expressions over several lines, as `format_query` answers them.

use gantry_promql::ast::{Aggregate, Binary, Expr, ExprKind};

/// Expressions up to this many characters stay on one line.
const LINE_CHARS: usize = 100;

/// The expression, laid out.
pub(super) fn pretty(expr: &Expr) -> String {
    at(expr, 0)
}

fn indent(level: usize) -> String {
    "  ".repeat(level)
}

/// Stands for an operand whose own text is laid out apart.
fn placeholder(like: &Expr) -> Expr {
    Expr::new(ExprKind::Number { value: 1.0, is_duration: false }, like.range)
}

fn at(expr: &Expr, level: usize) -> String {
    let text = expr.to_string();
    let pad = indent(level);
    if text.chars().count() <= LINE_CHARS {
        return format!("{pad}{text}");
    }
    match &expr.kind {
        ExprKind::Aggregate(aggregate) => {
            let short =
                Aggregate { expr: placeholder(&aggregate.expr), param: None, ..(**aggregate).clone() };
            let head = Expr::new(ExprKind::Aggregate(Box::new(short)), expr.range).to_string();
            let head = head.strip_suffix("(1)").unwrap_or(&head);
            let param = aggregate
                .param
                .as_ref()
                .map(|param| format!("{},\n", at(param, level + 1)))
                .unwrap_or_default();
            format!("{pad}{head}(\n{param}{}\n{pad})", at(&aggregate.expr, level + 1))
        }
        ExprKind::Binary(binary) => {
            let short = Binary { lhs: placeholder(expr), rhs: placeholder(expr), ..(**binary).clone() };
            let middle = Expr::new(ExprKind::Binary(Box::new(short)), expr.range).to_string();
            let middle = middle
                .strip_prefix("1 ")
                .and_then(|rest| rest.strip_suffix(" 1"))
                .unwrap_or(binary.op.as_str());
            format!("{}\n{pad}{middle}\n{}", at(&binary.lhs, level + 1), at(&binary.rhs, level + 1))
        }
        ExprKind::Call(call) => {
            let args: Vec<String> = call.args.iter().map(|arg| at(arg, level + 1)).collect();
            format!("{pad}{}(\n{}\n{pad})", call.function.name, args.join(",\n"))
        }
        ExprKind::Paren(inner) => format!("{pad}(\n{}\n{pad})", at(inner, level + 1)),
        ExprKind::Unary { expr: inner, .. } => {
            let sign = text.chars().next().unwrap_or('-');
            format!("{pad}{sign}{}", at(inner, level).trim_start())
        }
        ExprKind::Subquery(subquery) => {
            let suffix = text.strip_prefix(&subquery.expr.to_string()).unwrap_or("").to_owned();
            format!("{}{suffix}", at(&subquery.expr, level))
        }
        ExprKind::Matrix(_) | ExprKind::Number { .. } | ExprKind::String(_) | ExprKind::Vector(_) => {
            format!("{pad}{text}")
        }
    }
}

#[cfg(test)]
mod tests {
    use gantry_promql::parse;

    fn pretty(query: &str) -> String {
        super::pretty(&parse(query).unwrap())
    }

    #[test]
    fn short_ones_stay_and_long_ones_are_split() {
        assert_eq!(pretty("sum  by(job)(rate(a[5m]))/2"), "sum by (job) (rate(a[5m])) / 2");
        let query = "100 * sum by(namespace, pod) (rate(container_cpu_usage_seconds_total{namespace=\"shop\"}[5m])) / on(namespace, pod) group_left(node) -kube_pod_container_resource_limits{resource=\"cpu\"}";
        assert_eq!(
            pretty(query),
            "  100 * sum by (namespace, pod) (rate(container_cpu_usage_seconds_total{namespace=\"shop\"}[5m]))\n\
             / on (namespace, pod) group_left (node)\n  -kube_pod_container_resource_limits{resource=\"cpu\"}"
        );
        let nested = format!("topk(5, sum without(pod) ({{__name__=\"{}\"}}))", "a".repeat(90));
        assert_eq!(
            pretty(&nested),
            format!("topk(\n  5,\n  sum without (pod) (\n    {{__name__=\"{}\"}}\n  )\n)", "a".repeat(90))
        );
    }
}
