//! A folder against the API server in process: the server says what applying would make, and nothing is written.

use std::sync::Arc;

use gantry_apiserver::{ApiServer, Config, UserInfo};
use gantry_applet_diff::cluster::compare;
use gantry_applet_diff::objects::Objects;
use gantry_clock::SystemClock;
use gantry_operator::Rule;
use gantry_operator::apply::Applier;
use kube::Client;

use super::Project;

struct Cluster {
    client: Client,
    #[allow(dead_code, reason = "the server lives as long as the test")]
    server: ApiServer,
}

async fn cluster() -> Cluster {
    let server = ApiServer::open(Config::ephemeral(Arc::new(SystemClock::new()))).await.expect("a server");
    Cluster { client: Client::new(server.service_as(UserInfo::admin()), "default"), server }
}

impl Cluster {
    async fn apply(&self, objects: &Objects) {
        let mut applier = Applier::new(self.client.clone(), "kubectl");
        for (index, object) in objects.objects.iter().enumerate() {
            applier.apply(&object.value, index).await.expect("applied");
        }
    }

    async fn told(&self, objects: &Objects, rule: Rule) -> Result<String, String> {
        self.told_to("kubectl", objects, rule).await
    }

    async fn told_to(&self, manager: &str, objects: &Objects, rule: Rule) -> Result<String, String> {
        Ok(compare(self.client.clone(), objects, rule, manager).await?.to_text(false))
    }
}

fn read(project: &Project) -> Objects {
    Objects::of_files(&[project.path("app")], false).unwrap()
}

const CONFIG: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {mode: slow, old: 'yes'}\n";
const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: key}\nstringData: {word: hunter2}\n";

#[tokio::test]
async fn a_change_is_told_and_not_made() {
    let cluster = cluster().await;
    let project = Project::new(&[("app/a.yaml", CONFIG), ("app/b.yaml", SECRET)]);
    assert_eq!(
        cluster.told(&read(&project), Rule::ThreeWay).await.unwrap(),
        "added ConfigMap/settings in default\nadded Secret/key in default\n0 changed, 2 added, 0 removed, 0 unchanged\n"
    );
    cluster.apply(&read(&project)).await;
    assert_eq!(cluster.told(&read(&project), Rule::ThreeWay).await.unwrap(), "");
    project.write("app/a.yaml", &CONFIG.replace("slow", "fast").replace(", old: 'yes'", ""));
    project.write("app/b.yaml", &SECRET.replace("hunter2", "hunter3"));
    let expected = "changed ConfigMap/settings in default\n  data.mode: slow → fast\n  data.old: yes → –\nchanged Secret/key in default\n  data.word: (…) → (…)\n2 changed, 0 added, 0 removed, 0 unchanged\n";
    // Asked twice: the first time has written nothing.
    for _ in 0..2 {
        assert_eq!(cluster.told(&read(&project), Rule::ThreeWay).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn server_side_apply_keeps_what_others_own() {
    let cluster = cluster().await;
    let project = Project::new(&[("app/a.yaml", CONFIG)]);
    cluster.apply(&read(&project)).await;
    project.write("app/a.yaml", &CONFIG.replace("slow", "fast").replace(", old: 'yes'", ""));
    let objects = read(&project);
    let refused = cluster.told_to("somebody", &objects, Rule::ServerSide { force: false }).await.unwrap_err();
    assert!(refused.contains("conflict") && refused.contains("app/a.yaml:1:1"), "{refused}");
    let forced = cluster.told_to("somebody", &objects, Rule::ServerSide { force: true }).await.unwrap();
    assert!(forced.contains("data.mode: slow → fast") && !forced.contains("data.old"), "{forced}");
}

#[tokio::test]
async fn what_comes_with_its_definition_or_namespace_is_new() {
    let cluster = cluster().await;
    let project = Project::new(&[
        (
            "app/crd.yaml",
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: widgets.example.com}\nspec:\n  group: example.com\n  scope: Namespaced\n  names: {kind: Widget, plural: widgets, singular: widget, listKind: WidgetList}\n  versions:\n  - name: v1\n    served: true\n    storage: true\n    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}\n",
        ),
        ("app/namespace.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n"),
        (
            "app/widget.yaml",
            "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w, namespace: shop}\nspec: {size: 1}\n",
        ),
        ("app/z.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: z, namespace: shop}\n"),
    ]);
    let told = cluster.told(&read(&project), Rule::ThreeWay).await.unwrap();
    assert!(
        told.contains("added Widget/w in shop\n") && told.contains("added ConfigMap/z in shop\n"),
        "{told}"
    );
    let alone =
        Project::new(&[("app/w.yaml", "apiVersion: example.com/v1\nkind: Gadget\nmetadata: {name: g}\n")]);
    let refused = cluster.told(&read(&alone), Rule::ThreeWay).await.unwrap_err();
    assert!(
        refused.contains("does not know example.com/v1 Gadget") && refused.contains("app/w.yaml:1:1"),
        "{refused}"
    );
}
