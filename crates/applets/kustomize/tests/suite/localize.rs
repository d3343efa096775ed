//! `localize`: copies of local and remote kustomizations, which build to the same as their originals.

use std::path::Path;

use gantry_applet_kustomize::doors::Processes;
use gantry_kustomize::localize::{Localized, Request, localize};
use gantry_kustomize::remote::Repository;
use gantry_kustomize::{Disk, Doors, Source};

use super::builds::run;
use super::{POD, Project, git, has_git};

fn copy(project: &Project, source: Source<'_>, scope: Option<&Path>) -> Result<Localized, String> {
    let (fetcher, processes) = (project.fetcher(false), Processes::new(std::time::Duration::from_secs(60)));
    let doors = Doors { remote: &fetcher, programs: &processes };
    let request = Request { source, shown: "app", scope };
    localize(&Disk, doors, request).map_err(|error| error.to_string())
}

fn local(project: &Project, scope: Option<&str>) -> Result<Localized, String> {
    let scope = scope.map(|scope| project.path(scope));
    copy(project, Source::Directory(&project.path("app")), scope.as_deref())
}

fn text<'a>(copy: &'a Localized, path: &str) -> &'a str {
    let names: Vec<_> = copy.files.keys().collect();
    let content = copy.files.get(Path::new(path)).unwrap_or_else(|| panic!("no {path} in {names:?}"));
    std::str::from_utf8(content).unwrap()
}

#[test]
fn every_file_that_is_named_is_copied_and_no_other() {
    let project = Project::new(&[
        (
            "app/kustomization.yaml",
            "# a comment\nResources: [sub/../pod.yaml, ./base]\nnamePrefix: ''\n\
             configMapGenerator:\n- {name: c, files: [key=data/a.txt, b.txt], envs: [e.env]}\n\
             patches:\n- {path: patch.yaml, target: {kind: Pod}}\n- patch: '[]'\n\
             patchesStrategicMerge: [patch.yaml, \"{apiVersion: v1, kind: Pod, metadata: {name: p}}\"]\n\
             replacements: [{path: r.yaml}]\nconfigurations: [conf.yaml]\n\
             transformers:\n- t.yaml\n- |\n  apiVersion: builtin\n  kind: PatchTransformer\n  metadata: {name: t}\n  path: patch2.yaml\n",
        ),
        ("app/pod.yaml", POD),
        ("app/base/Kustomization", "namespace: n\n"),
        ("app/data/a.txt", "A"),
        ("app/b.txt", "B"),
        ("app/e.env", "E=1"),
        ("app/patch.yaml", POD),
        ("app/patch2.yaml", "[]"),
        ("app/patch3.yaml", "[]"),
        ("app/r.yaml", "[]"),
        ("app/conf.yaml", "images: []\n"),
        (
            "app/t.yaml",
            "kind: PatchTransformer\napiVersion: builtin\nmetadata: {name: u}\npath: patch3.yaml # here\n",
        ),
        ("app/not-named.yaml", POD),
        ("app/sub/x", ""),
    ]);
    let copy = local(&project, None).unwrap();
    let names: Vec<String> = copy.files.keys().map(|path| path.display().to_string()).collect();
    assert_eq!(
        names,
        [
            "b.txt",
            "base/Kustomization",
            "conf.yaml",
            "data/a.txt",
            "e.env",
            "kustomization.yaml",
            "patch.yaml",
            "patch2.yaml",
            "patch3.yaml",
            "pod.yaml",
            "r.yaml",
            "t.yaml",
        ]
    );
    let found = text(&copy, "kustomization.yaml");
    assert!(
        found.starts_with("configMapGenerator:\n- envs:\n  - e.env\n  files:\n  - key=data/a.txt\n"),
        "{found}"
    );
    assert!(found.contains("resources:\n- pod.yaml\n- base\n") && !found.contains("namePrefix"), "{found}");
    assert_eq!(
        text(&copy, "t.yaml"),
        "apiVersion: builtin\nkind: PatchTransformer\nmetadata:\n  name: u\npath: patch3.yaml\n"
    );
    assert_eq!((copy.default_name.as_str(), copy.target.as_path()), ("localized-app", Path::new(".")));
}

#[test]
fn references_stay_within_the_scope() {
    let project = Project::new(&[
        ("app/kustomization.yaml", "resources: [../base]\n"),
        ("base/kustomization.yaml", "resources: [pod.yaml]\n"),
        ("base/pod.yaml", POD),
    ]);
    let error = local(&project, None).unwrap_err();
    assert!(error.contains("outside localize scope") && error.contains("kustomization.yaml:1:13"), "{error}");
    let copy = local(&project, Some("")).unwrap();
    assert_eq!(copy.target, Path::new("app"));
    assert_eq!(text(&copy, "app/kustomization.yaml"), "resources:\n- ../base\n");
    assert_eq!(text(&copy, "base/pod.yaml"), POD);
    let error = local(&project, Some("base")).unwrap_err();
    assert!(error.contains("does not contain target \"app\""), "{error}");
}

#[test]
fn a_link_is_copied_as_the_file_it_leads_to() {
    let project =
        Project::new(&[("app/kustomization.yaml", "resources: [link.yaml]\n"), ("app/real.yaml", POD)]);
    std::os::unix::fs::symlink("real.yaml", project.path("app/link.yaml")).unwrap();
    let copy = local(&project, None).unwrap();
    assert_eq!(text(&copy, "kustomization.yaml"), "resources:\n- real.yaml\n");
    project.write("outside.yaml", POD);
    std::fs::remove_file(project.path("app/link.yaml")).unwrap();
    std::os::unix::fs::symlink("../outside.yaml", project.path("app/link.yaml")).unwrap();
    let error = local(&project, None).unwrap_err();
    assert!(error.contains("is not in or below"), "{error}");
}

#[test]
fn charts_and_their_values_are_copied() {
    let project = Project::new(&[
        (
            "app/kustomization.yaml",
            "helmCharts:\n- {name: c, valuesFile: v.yaml, additionalValuesFiles: [w.yaml], valuesInline: {empty: ''}}\n\
             helmGlobals: {chartHome: ./home}\n",
        ),
        ("app/v.yaml", "a: 1\n"),
        ("app/w.yaml", "a: 2\n"),
        ("app/home/c/Chart.yaml", "name: c\n"),
    ]);
    std::os::unix::fs::symlink("/etc", project.path("app/home/link")).unwrap();
    let copy = local(&project, None).unwrap();
    assert_eq!(
        text(&copy, "kustomization.yaml"),
        "helmCharts:\n- additionalValuesFiles:\n  - w.yaml\n  name: c\n  valuesFile: v.yaml\n  valuesInline:\n    \
         empty: \"\"\nhelmGlobals:\n  chartHome: home\n"
    );
    assert_eq!(copy.files.keys().filter(|path| path.starts_with("home")).count(), 1);
    project.write("app/kustomization.yaml", "helmGlobals: {chartHome: /home}\n");
    assert!(local(&project, None).unwrap_err().contains("absolute path \"/home\" not handled in alpha"));
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let project = Project::new(&[]);
    for (kustomization, message) in [
        ("resources: [gone.yaml]\n", "could not localize path \"gone.yaml\" as file"),
        ("generators:\n- |\n  kind: x\n", "unable to load generators entry: unable to load resource entry"),
        ("imageTags: [{name: a}]\n", "invalid Kustomization"),
        ("components: ['https://github.com/org/repo']\n", "missing ref query string parameter"),
        (
            "transformers:\n- |\n  {apiVersion: builtin, kind: PatchTransformer, metadata: {name: t}, path: {a: b}}\n",
            "considering field 'path' of object PatchTransformer.builtin.[noGrp]/t.[noNs]: expected sequence or scalar",
        ),
    ] {
        project.write("app/kustomization.yaml", kustomization);
        let error = local(&project, None).unwrap_err();
        assert!(
            error.contains(message) && error.contains("app/kustomization.yaml:"),
            "{kustomization}: {error}"
        );
        assert!(error.starts_with("unable to localize target \"app\": "), "{error}");
    }
}

#[test]
fn a_remote_base_becomes_a_local_one() {
    if !has_git() {
        return;
    }
    let project = Project::new(&[
        ("repo/base/kustomization.yaml", "resources: [../shared, pod.yaml]\n"),
        ("repo/base/pod.yaml", POD),
        ("repo/shared/kustomization.yaml", "configMapGenerator: [{name: c, literals: [a=b]}]\n"),
    ]);
    let repository = project.path("repo");
    git(&repository, &["init", "-q"]);
    git(&repository, &["add", "."]);
    git(&repository, &["commit", "-q", "-m", "one"]);
    git(&repository, &["tag", "v1"]);
    let address = format!("file://{}//base?ref=v1", repository.display());
    project.write("app/kustomization.yaml", &format!("resources: ['{address}']\n"));

    let copy = local(&project, None).unwrap();
    let place = format!("localized-files/file-schemed{}/v1", repository.display());
    assert_eq!(text(&copy, "kustomization.yaml"), format!("resources:\n- {place}/base\n"));
    assert_eq!(
        text(&copy, &format!("{place}/base/kustomization.yaml")),
        "resources:\n- ../shared\n- pod.yaml\n"
    );
    assert!(text(&copy, &format!("{place}/shared/kustomization.yaml")).contains("a=b"));

    let remote = Repository::parse(&address).unwrap();
    let copy = super::localize::copy(&project, Source::Repository(&remote), None).unwrap();
    assert_eq!((copy.default_name.as_str(), copy.target.as_path()), ("localized-base-v1", Path::new("base")));
    assert_eq!(text(&copy, "shared/kustomization.yaml").lines().count(), 4);
    let error =
        super::localize::copy(&project, Source::Repository(&remote), Some(Path::new("/"))).unwrap_err();
    assert!(error.contains("specified for remote localize target"), "{error}");

    std::fs::create_dir(project.path("app/localized-files")).unwrap();
    assert!(local(&project, None).unwrap_err().contains("already contains localized-files"));
}

#[test]
fn the_command_writes_a_copy_that_builds_to_the_same() {
    let project = Project::new(&[
        ("over/app/kustomization.yaml", "namePrefix: a-\nresources: [../base] # it\n"),
        ("over/base/kustomization.yaml", "resources: [pod.yaml]\n"),
        ("over/base/pod.yaml", POD),
    ]);
    let path = |name: &str| project.path(name).display().to_string();
    assert!(run(&["localize", &path("over/app"), &path("out"), "--scope", &path("over")]));
    assert_eq!(
        std::fs::read_to_string(project.path("out/app/kustomization.yaml")).unwrap(),
        "namePrefix: a-\nresources:\n- ../base\n"
    );
    assert!(project.path("out/base/pod.yaml").exists());
    assert!(!run(&["localize", &path("over/app"), &path("out")]), "it is there already");
}

#[test]
fn a_failure_leaves_no_half_of_a_copy() {
    let project = Project::new(&[
        ("app/kustomization.yaml", "resources: [pod.yaml, gone.yaml]\n"),
        ("app/pod.yaml", POD),
    ]);
    let (app, out) = (project.path("app").display().to_string(), project.path("out").display().to_string());
    assert!(!run(&["localize", &app, &out]));
    assert!(!project.path("out").exists());
    assert!(!run(&["localize", &app, &project.path("no/such/parent").display().to_string()]));
}
