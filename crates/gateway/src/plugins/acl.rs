//! `acl`: which groups of consumers may come in.

use super::settings::Settings;
use super::{Answer, Plugin, Request};

pub(crate) struct Acl {
    allow: Vec<String>,
    deny: Vec<String>,
    hides_groups: bool,
}

impl Acl {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Acl, String> {
        let allow = settings.texts("allow").unwrap_or_default();
        let deny = settings.texts("deny").unwrap_or_default();
        if allow.is_empty() == deny.is_empty() {
            return Err("exactly one of allow and deny must name groups".into());
        }
        Ok(Acl { allow, deny, hides_groups: settings.flag("hide_groups_header", false) })
    }
}

impl Plugin for Acl {
    fn access(&self, request: &mut Request<'_>) -> Result<(), Answer> {
        let consumers = request.consumers;
        let Some(consumer) = request.identity.consumer.clone() else {
            let is_known = request.identity.credential.is_some();
            return Err(if is_known {
                Answer::error(403, "You cannot consume this service")
            } else {
                Answer::error(401, "Unauthorized")
            });
        };
        let groups = consumers.groups(&consumer.id);
        let is_in = |list: &[String]| groups.iter().any(|group| list.contains(group));
        let may_pass = if self.allow.is_empty() { !is_in(&self.deny) } else { is_in(&self.allow) };
        if !may_pass {
            return Err(Answer::error(403, "You cannot consume this service"));
        }
        if self.hides_groups || groups.is_empty() {
            request.edits.remove("X-Consumer-Groups");
        } else {
            request.edits.set("X-Consumer-Groups", &groups.join(", "));
        }
        Ok(())
    }
}
