//! `kustomize explain` and `build --validate` as a person runs them.

use super::Project;

const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  selector: {matchLabels: {a: b}}
  template:
    metadata: {labels: {a: b}}
    spec:
      containers:
      - name: web
        image: example/web:1
";

fn project() -> Project {
    Project::new(&[
        ("app/web.yaml", WEB),
        (
            "app/kustomization.yaml",
            "resources: [web.yaml, crd.yaml, widget.yaml]\nnamePrefix: dev-\nimages:\n- {name: example/web, newTag: '2'}\nsecretGenerator:\n- {name: key, literals: [word=hunter2]}\n",
        ),
        (
            "app/crd.yaml",
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: widgets.example.com}\nspec:\n  group: example.com\n  scope: Namespaced\n  names: {kind: Widget, plural: widgets, singular: widget, shortNames: [wd]}\n  versions:\n  - name: v1\n    served: true\n    storage: true\n    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}\n",
        ),
        (
            "app/widget.yaml",
            "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 1}\n",
        ),
    ])
}

/// Whether it succeeded, standard output and standard error.
fn run(project: &Project, arguments: &[&str]) -> Result<(String, Vec<String>), String> {
    let app = project.path("app");
    let line = ["kustomize"].into_iter().chain(arguments.iter().map(|word| match *word {
        "APP" => app.to_str().unwrap(),
        word => word,
    }));
    let matches =
        gantry_applet_kustomize::command().try_get_matches_from(line).map_err(|error| error.to_string())?;
    gantry_applet_kustomize::answer(&matches)
}

#[test]
fn a_field_is_explained_by_every_name_of_its_object() {
    let project = project();
    let app = project.path("app");
    for object in [
        "deployment/dev-web",
        "deploy/web",
        "Deployment/web",
        "deployments.apps/dev-web",
        "apps/v1/Deployment/web",
    ] {
        let (text, _) =
            run(&project, &["explain", "APP", object, "spec.template.spec.containers[name=web].image"])
                .unwrap();
        let expected = format!(
            "Deployment/dev-web\nspec.template.spec.containers[name=web].image: example/web:2\n  set at {0}/kustomization.yaml:4:3\n  \
             base {0}  resources[0]  {0}/web.yaml:12:16          example/web:1\n  \
             base {0}  images[0]     {0}/kustomization.yaml:4:3  example/web:1 → example/web:2\n",
            app.display()
        );
        assert_eq!(text, expected, "{object}");
    }
    for object in ["widgets/w", "wd/dev-w", "widget.example.com/w"] {
        let (text, _) = run(&project, &["explain", "APP", object, "spec.size"]).unwrap();
        assert!(text.starts_with("Widget/dev-w\nspec.size: 1\n"), "{object}: {text}");
    }
}

#[test]
fn an_object_is_explained_step_by_step() {
    let project = project();
    let (text, _) = run(&project, &["explain", "APP", "deploy/web"]).unwrap();
    let app = project.path("app");
    let app = app.display();
    let expected = format!(
        "Deployment/dev-web\nbase {app}\n  resources[0]  {app}/web.yaml:1:1  made the object\n  \
         namePrefix  {app}/kustomization.yaml:2:13\n    metadata.name: web → dev-web\n  \
         images[0]  {app}/kustomization.yaml:4:3\n    spec.template.spec.containers[name=web].image: example/web:1 → example/web:2\n"
    );
    assert_eq!(text, expected);
}

#[test]
fn json_says_the_same() {
    let project = project();
    let (text, _) = run(&project, &["explain", "APP", "deploy/web", "metadata.name", "-o", "json"]).unwrap();
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["object"]["name"], "dev-web");
    let field = &answer["fields"][0];
    assert_eq!((&field["path"], &field["value"]), (&"metadata.name".into(), &"dev-web".into()));
    assert_eq!(
        (&field["steps"][1]["field"], &field["steps"][1]["old"]),
        (&"namePrefix".into(), &"web".into())
    );
    assert!(field["setAt"].as_str().unwrap().ends_with("kustomization.yaml:2:13"), "{field}");
    let (text, _) = run(&project, &["explain", "APP", "secret/key", "-o", "json"]).unwrap();
    let (plain, _) = run(&project, &["explain", "APP", "secret/key", "data.word"]).unwrap();
    for text in [text, plain] {
        assert!(!text.contains("hunter2") && !text.contains("aHVudGVyMg"), "{text}");
    }
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let project = project();
    let error = |arguments: &[&str]| run(&project, arguments).unwrap_err();
    assert_eq!(
        error(&["explain", "APP", "deploy/wen"]),
        "Deployment/wen: the build has no such object, did you mean Deployment/dev-web?"
    );
    assert_eq!(
        error(&["explain", "APP", "deploy/dev-wbe"]),
        "Deployment/dev-wbe: the build has no such object, did you mean Deployment/dev-web?"
    );
    assert_eq!(
        error(&["explain", "APP", "deploy/web", "spec.tmplate"]),
        "Deployment/dev-web: there is no tmplate in spec, did you mean template?"
    );
    assert!(
        error(&["explain", "APP", "deploy/web", "spec..x"]).contains("character 6"),
        "a path says where it is wrong"
    );
    assert!(error(&["explain", "APP", "a/b/c/d/e"]).contains("name it KIND/NAME"));
}

#[test]
fn a_build_is_validated_when_that_is_asked_for() {
    let project = project();
    let built = run(&project, &["build", "--validate", "APP"]).unwrap();
    assert_eq!(built, run(&project, &["build", "APP"]).unwrap());
    project.write("app/web.yaml", &WEB.replace("image:", "imag:"));
    project.write(
        "app/widget.yaml",
        "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {sise: 1}\n",
    );
    assert!(run(&project, &["build", "APP"]).is_ok());
    let error = run(&project, &["build", "--validate", "APP"]).unwrap_err();
    let app = project.path("app");
    let expected = format!(
        "the objects do not fit their schemas, 2 problems\n  \
         {0}/web.yaml:12:15: Deployment/dev-web: spec.template.spec.containers[0].imag: unknown field, did you mean image?\n  \
         {0}/widget.yaml:4:14: Widget/dev-w: spec.sise: unknown field, did you mean size?",
        app.display()
    );
    assert_eq!(error, expected);
}

#[test]
fn kinds_without_a_schema_are_named() {
    let project = project();
    project.write("app/kustomization.yaml", "resources: [widget.yaml]\n");
    let (_, notes) = run(&project, &["build", "--validate", "APP"]).unwrap();
    assert_eq!(
        notes,
        [
            "not validated: no schema for example.com/v1 Widget; its CustomResourceDefinition is not in the build"
        ]
    );
}
