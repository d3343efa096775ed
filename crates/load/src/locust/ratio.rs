//! How the users' time is shared among tasks, as `/tasks` and `--show-task-ratio` tell it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::message::{ClassDescription, TaskDescription};

/// The shares of the classes (by how many of each run) and of their tasks; with `total` those of all users.
pub fn task_ratio(classes: &[ClassDescription], spawned: &BTreeMap<String, i64>, total: bool) -> Value {
    let sum = match spawned.values().sum::<i64>() {
        0 => 1,
        sum => sum,
    };
    let shares = classes.iter().map(|class| {
        let share = spawned.get(&class.name).copied().unwrap_or(0) as f64 / sum as f64;
        let within = tasks(&class.tasks, if total { share } else { 1.0 }, total);
        (class.name.clone(), json!({"ratio": share, "tasks": within}))
    });
    Value::Object(shares.collect())
}

fn tasks(list: &[TaskDescription], share: f64, total: bool) -> Value {
    let count: u64 = list.iter().map(|task| task.count.max(1)).sum();
    let shares: Map<String, Value> = list
        .iter()
        .map(|task| {
            let own = task.count.max(1) as f64 * share / count as f64;
            let mut value = json!({"ratio": own});
            if !task.tasks.is_empty() {
                value["tasks"] = tasks(&task.tasks, if total { own } else { 1.0 }, total);
            }
            (task.name.clone(), value)
        })
        .collect();
    Value::Object(shares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_share_by_how_often_they_are_listed() {
        let task = |name: &str, count| TaskDescription { name: name.to_owned(), count, tasks: Vec::new() };
        let class = ClassDescription {
            name: "Shopper".to_owned(),
            weight: 1.0,
            fixed_count: 0,
            host: None,
            tasks: vec![task("browse", 3), task("buy", 1)],
        };
        let spawned = BTreeMap::from([("Shopper".to_owned(), 1), ("Other".to_owned(), 1)]);
        let per_class = task_ratio(std::slice::from_ref(&class), &spawned, false);
        assert_eq!(per_class["Shopper"]["ratio"], 0.5);
        assert_eq!(per_class["Shopper"]["tasks"]["browse"]["ratio"], 0.75);
        let total = task_ratio(&[class], &spawned, true);
        assert_eq!(total["Shopper"]["tasks"]["browse"]["ratio"], 0.375);
    }
}
