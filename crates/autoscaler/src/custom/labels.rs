//! Which label of a series names which kind of object.

use gantry_gotemplate::{Template, Value};
use regex::Regex;

use super::kinds::{GroupResource, Kinds};

/// A template for all resources, and labels that are exceptions from it.
#[derive(Clone)]
pub(crate) struct ResourceLabels {
    template: Option<Template>,
    /// The template turned round: what a label of its form says.
    form: Option<Regex>,
    /// Label, group, resource.
    overrides: Vec<(String, String, String)>,
}

impl std::fmt::Debug for ResourceLabels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResourceLabels")
            .field("form", &self.form)
            .field("overrides", &self.overrides)
            .finish()
    }
}

impl ResourceLabels {
    pub(crate) fn new(
        template: &str,
        overrides: Vec<(String, String, String)>,
    ) -> Result<ResourceLabels, String> {
        if template.is_empty() {
            return Ok(ResourceLabels { template: None, form: None, overrides });
        }
        let template = Template::new("resource-label").delimiters("<<", ">>").parse(template);
        let template = template.map_err(|error| error.to_string())?;
        let form = render(&template, "(?P<group>.+?)", "(?P<resource>.+?)")?;
        if !form.contains("(?P<resource>") {
            return Err("it must include at least `<<.Resource>>`".into());
        }
        let form = Regex::new(&format!("^{form}$")).map_err(|error| error.to_string())?;
        Ok(ResourceLabels { template: Some(template), form: Some(form), overrides })
    }

    /// The label that names objects of the resource.
    pub(crate) fn label(&self, kinds: &Kinds, resource: &GroupResource) -> Result<String, String> {
        // Of several labels for one resource the last counts, as in a map that is filled in order.
        for (label, group, name) in self.overrides.iter().rev() {
            if kinds.normalised(&group_resource(group, name)).as_ref() == Some(resource) {
                return Ok(label.clone());
            }
        }
        let cannot = |why: String| format!("unable to convert resource {resource} into label: {why}");
        let Some(template) = &self.template else {
            return Err(cannot("no generic resource label form specified for this metric".into()));
        };
        let singular = kinds.singular(resource);
        let singular = singular.ok_or_else(|| cannot("the cluster does not serve it".into()))?;
        let group = resource.group.replace(['.', '-'], "_");
        let label = render(template, &group, &singular).map_err(cannot)?;
        if label.is_empty() {
            return Err(cannot("empty label produced by label template".into()));
        }
        Ok(label)
    }

    /// The resource that a label of a series names.
    pub(crate) fn resource(&self, kinds: &Kinds, label: &str) -> Option<GroupResource> {
        if let Some((_, group, name)) = self.overrides.iter().find(|(known, ..)| known == label) {
            return kinds.normalised(&group_resource(group, name));
        }
        let captures = self.form.as_ref()?.captures(label)?;
        let group = captures.name("group").map_or("", |group| group.as_str());
        kinds.normalised(&group_resource(group, captures.name("resource")?.as_str()))
    }

    /// Overrides that name no kind of the cluster.
    pub(crate) fn unknown<'a>(&'a self, kinds: &'a Kinds) -> impl Iterator<Item = String> + 'a {
        self.overrides.iter().filter_map(|(label, group, name)| {
            let resource = group_resource(group, name);
            kinds.normalised(&resource).is_none().then(|| format!("{label}: {resource}"))
        })
    }
}

fn group_resource(group: &str, resource: &str) -> GroupResource {
    GroupResource { group: group.into(), resource: resource.into() }
}

fn render(template: &Template, group: &str, resource: &str) -> Result<String, String> {
    let data = Value::map([("Group", Value::from(group)), ("Resource", Value::from(resource))]);
    template.execute(&data).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::kinds::tests::kinds;
    use super::*;

    #[test]
    fn a_template_works_both_ways() {
        let kinds = kinds();
        let labels = ResourceLabels::new("kube_<<.Group>>_<<.Resource>>", Vec::new()).unwrap();
        let deployments = GroupResource::parse("deployments.apps");
        assert_eq!(labels.label(&kinds, &deployments).unwrap(), "kube_apps_deployment");
        assert_eq!(labels.resource(&kinds, "kube_apps_deployment"), Some(deployments));
        assert_eq!(labels.resource(&kinds, "apps_deployment"), None);
        let ingresses = GroupResource::parse("ingresses.networking.k8s.io");
        assert_eq!(labels.label(&kinds, &ingresses).unwrap(), "kube_networking_k8s_io_ingress");
        assert!(ResourceLabels::new("<<.Group>>", Vec::new()).is_err());
    }

    #[test]
    fn overrides_come_first() {
        let kinds = kinds();
        let over = |label: &str, name: &str| (label.to_owned(), String::new(), name.to_owned());
        let overrides = vec![over("ns", "namespace"), over("x", "nosuch")];
        let labels = ResourceLabels::new("<<.Resource>>", overrides).unwrap();
        assert_eq!(labels.label(&kinds, &GroupResource::core("namespaces")).unwrap(), "ns");
        assert_eq!(labels.label(&kinds, &GroupResource::core("pods")).unwrap(), "pod");
        assert_eq!(labels.resource(&kinds, "ns"), Some(GroupResource::core("namespaces")));
        assert_eq!(labels.resource(&kinds, "job"), None);
        assert_eq!(labels.unknown(&kinds).collect::<Vec<_>>(), ["x: nosuch"]);
        let only = ResourceLabels::new("", vec![over("p", "pod")]).unwrap();
        assert!(
            only.label(&kinds, &GroupResource::core("nodes"))
                .unwrap_err()
                .contains("no generic resource label")
        );
    }
}
