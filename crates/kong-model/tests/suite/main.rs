//! No input makes a panic, and what is accepted once is accepted again.

use gantry_kong_model::{Context, Declarative, Model, Seeded, flattened_errors};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Any JSON, with the names that schemas know more often than others.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f32>().prop_map(|number| json!(number)),
        "[a-z/*.:~$()\\[\\]%-]{0,12}".prop_map(Value::from),
        Just(json!("key-auth")),
        Just(json!("http")),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        let names = prop_oneof![
            Just("services".to_owned()),
            Just("routes".to_owned()),
            Just("plugins".to_owned()),
            Just("consumers".to_owned()),
            Just("upstreams".to_owned()),
            Just("targets".to_owned()),
            Just("name".to_owned()),
            Just("id".to_owned()),
            Just("config".to_owned()),
            Just("paths".to_owned()),
            Just("protocols".to_owned()),
            Just("snis".to_owned()),
            Just("service".to_owned()),
            "[a-z_]{1,8}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((names, inner), 0..5)
                .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_configuration_is_judged(sections in prop::collection::vec(any_json(), 4)) {
        let model = Model::load();
        let reader = Declarative::new(&model);
        let [services, routes, plugins, consumers] = &sections[..] else { unreachable!() };
        let input = json!({
            "_format_version": "3.0",
            "services": services, "routes": routes, "plugins": plugins, "consumers": consumers,
        });
        if let Err((faults, input)) = reader.read(input, &mut Seeded::new(1, 1)) {
            let _ = flattened_errors(&model, &input, &faults);
        }
    }

    #[test]
    fn any_text_is_judged(text in "(_format_version: '3.0'\n)?[ a-z:\\-\\[\\]{}'\"\n#&*|>!]{0,80}") {
        let model = Model::load();
        let _ = Declarative::new(&model).parse("kong.yml", &text, &mut Seeded::new(1, 1));
    }

    #[test]
    fn any_entity_is_filled_and_judged(entity in any_json()) {
        let model = Model::load();
        for schema in model.schemas() {
            let mut filled = entity.as_object().cloned().unwrap_or_default();
            schema.fill(&mut filled, Context::Insert, &mut Seeded::new(1, 1));
            let again = filled.clone();
            let first = schema.validate(&Value::Object(filled));
            let mut refilled = again;
            schema.fill(&mut refilled, Context::Insert, &mut Seeded::new(2, 2));
            prop_assert_eq!(first.is_ok(), schema.validate(&Value::Object(refilled)).is_ok());
        }
    }
}
