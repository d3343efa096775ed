//! Charts, with a script in the place of helm that writes down what it is asked.

use gantry_kustomize::{HelmOptions, Options};

use super::Project;

const HELM: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$@" >> "$here/asked"
echo "$HELM_CACHE_HOME" >> "$here/homes"
case $1 in
version) echo v3.14.0+g1 ;;
pull)
  while [ $# -gt 1 ]; do [ "$1" = --untardir ] && dir=$2; shift; done
  mkdir -p "$dir/web"; echo 'replicas: 7' > "$dir/web/values.yaml" ;;
template)
  while [ $# -gt 1 ]; do [ "$1" = -f ] && cat "$2" >> "$here/values"; shift; done
  echo 'walk.go: found symbolic link'
  echo ---
  printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: of-chart}\n'
  echo ---
  printf 'apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: kube-system}\n' ;;
esac
"#;

fn project(kustomization: &str) -> Project {
    let project = Project::new(&[
        ("app/kustomization.yaml", kustomization),
        ("app/charts/web/values.yaml", "replicas: 2\nimage: {tag: '1'}\n"),
        ("app/pod.yaml", super::POD),
    ]);
    project.script("bin/helm", HELM);
    project
}

fn options(project: &Project) -> Options {
    let command = project.path("bin/helm").to_str().unwrap().to_owned();
    Options { helm: Some(HelmOptions { command, ..HelmOptions::default() }), ..Options::default() }
}

fn noted(project: &Project, file: &str) -> String {
    std::fs::read_to_string(project.path("bin").join(file)).unwrap_or_default()
}

#[test]
fn a_chart_is_rendered_with_its_values_merged_and_keeps_its_namespaces() {
    let project = project(
        "namespace: shop\nnamePrefix: x-\nresources: [pod.yaml]\nhelmCharts:\n- name: web\n  releaseName: r\n  includeCRDs: true\n  valuesInline: {replicas: 3}\n",
    );
    let found = project.run(&options(&project)).unwrap().to_yaml();
    let expected = "\
apiVersion: v1
kind: ConfigMap
metadata:
  name: x-of-chart
---
apiVersion: v1
kind: Service
metadata:
  name: x-web
  namespace: kube-system
---
apiVersion: v1
kind: Pod
metadata:
  name: x-p
  namespace: shop
";
    assert_eq!(found, expected);
    let asked = noted(&project, "asked");
    let chart = project.path("app/charts/web");
    let begin = format!("version --short\ntemplate r {} --namespace shop -f ", chart.display());
    assert!(
        asked.starts_with(&begin) && asked.ends_with("web-kustomize-values.yaml --include-crds\n"),
        "{asked}"
    );
    assert_eq!(noted(&project, "values"), "image:\n  tag: \"1\"\nreplicas: 3\n");
}

#[test]
fn a_chart_that_is_not_there_is_pulled_by_name_and_version() {
    let project =
        project("helmCharts:\n- {name: web, version: 1.2.3, repo: 'https://charts.example', namespace: n}\n");
    project.run(&options(&project)).unwrap();
    let home = project.path("app/charts/web-1.2.3");
    let asked = noted(&project, "asked");
    let pull = format!(
        "pull --untar --untardir {} --repo https://charts.example web --version 1.2.3\n",
        home.display()
    );
    assert!(asked.contains(&pull), "{asked}");
    assert!(
        asked.contains(&format!("template --generate-name {}/web --namespace n -f ", home.display())),
        "{asked}"
    );
    assert_eq!(noted(&project, "values"), "replicas: 7\n");
}

#[test]
fn the_command_line_wins_over_the_chart() {
    let project = project("helmCharts:\n- {name: web, kubeVersion: '1.20', apiVersions: [a/v1]}\n");
    let mut options = options(&project);
    let helm = options.helm.as_mut().unwrap();
    helm.kube_version = "1.30".into();
    helm.api_versions = vec!["b/v1".into(), "c/v1".into()];
    helm.debug = true;
    project.run(&options).unwrap();
    let asked = noted(&project, "asked");
    assert!(
        asked.ends_with("--api-versions b/v1 --api-versions c/v1 --kube-version 1.30 --debug\n"),
        "{asked}"
    );
}

#[test]
fn globals_and_the_deprecated_list_are_heard() {
    let project = project(
        "helmChartInflationGenerator:\n- {chartName: web, chartHome: more, helmHome: /h, releaseName: r, valuesLocal: {a: 1}, valuesMerge: replace}\n",
    );
    project.write("app/more/web/values.yaml", "b: 2\n");
    project.run(&options(&project)).unwrap();
    assert!(
        noted(&project, "asked")
            .contains(&format!("template r {} -f ", project.path("app/more/web").display()))
    );
    assert_eq!(noted(&project, "values"), "a: 1\n");
    assert_eq!(noted(&project, "homes").lines().next(), Some("/h/.cache"));
}

#[test]
fn a_namespace_reaches_the_charts_of_a_base() {
    let project = project("namespace: shop\nresources: [base]\n");
    project.write("app/base/kustomization.yaml", "helmCharts: [{name: web, releaseName: one}]\n");
    project.write("app/base/charts/web/values.yaml", "");
    project.run(&options(&project)).unwrap();
    let chart = project.path("app/base/charts/web");
    let asked = noted(&project, "asked");
    assert!(asked.contains(&format!("template one {} --namespace shop -f", chart.display())), "{asked}");
}

#[test]
fn a_chart_may_have_a_file_of_its_own() {
    let project = project("generators: [chart.yaml]\n");
    let chart = "apiVersion: builtin\nkind: HelmChartInflationGenerator\nmetadata: {name: x}\nname: web\nreleaseName: r\nnameTemplate: t\nchartHome: more\nvaluesMerge: merge\nvaluesInline: {a: 1, b: 2}\n";
    project.write("app/chart.yaml", chart);
    project.write("app/more/web/values.yaml", "b: 3\n");
    project.run(&options(&project)).unwrap();
    let chart = project.path("app/more/web");
    let asked = noted(&project, "asked");
    assert!(asked.contains(&format!("template r {} --name-template t -f", chart.display())), "{asked}");
    assert_eq!(noted(&project, "values"), "a: 1\nb: 3\n");
}

#[test]
fn a_chart_is_refused_by_its_place() {
    let project = project("helmCharts:\n- name: web\n");
    let refused = project.run(&Options::default()).unwrap_err();
    assert!(refused.message().contains("must specify --enable-helm"), "{refused}");
    assert!(refused.place().is_some_and(|place| place.contains("app/kustomization.yaml:2:3")), "{refused}");
    for (chart, why) in [
        ("{name: web, valuesMerge: mix}", "valuesMerge must be one of [merge override replace]"),
        ("{name: gone}", "no repo specified for pull, no chart found at"),
        ("{releaseName: r}", "chart name cannot be empty"),
        ("{name: web, relaseName: r}", "did you mean `releaseName`?"),
        ("{name: web, valuesFile: ../outside.yaml}", "is not in or below"),
    ] {
        project.write("app/kustomization.yaml", &format!("helmCharts:\n- {chart}\n"));
        project.write("outside.yaml", "a: 1\n");
        let refused = project.run(&options(&project)).unwrap_err();
        assert!(refused.message().contains(why), "{refused}");
        assert!(
            refused.place().is_some_and(|place| place.contains("app/kustomization.yaml:2:")),
            "{refused}"
        );
    }
}

#[test]
fn what_helm_says_when_it_fails_is_shown() {
    let project = project("helmCharts:\n- {name: web}\n");
    project.script(
        "bin/helm",
        "#!/bin/sh\n[ $1 = version ] && echo v3.1.0 && exit\necho 'parse error at web.yaml:3' >&2\nexit 1\n",
    );
    let refused = project.run(&options(&project)).unwrap_err();
    assert!(refused.message().contains("parse error at web.yaml:3: unable to run: '"), "{refused}");
    project.script("bin/helm", "#!/bin/sh\necho v2.17.0\n");
    let refused = project.run(&options(&project)).unwrap_err();
    assert!(refused.message().contains("requires helm V3 or V4 but got v2.17.0"), "{refused}");
}
