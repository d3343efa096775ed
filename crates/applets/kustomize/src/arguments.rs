//! The small languages of `edit`'s arguments: `key:value`, `image=new:tag@digest`, `name=count`, lists with commas.

use std::collections::BTreeMap;

use gantry_kustomize::edit::{ImageChange, Part, split_image};

/// What an asterisk stands for: the part that the file has.
const KEEP: &str = "*";
/// What `buildMetadata` may list.
const BUILD_METADATA: [&str; 3] = ["originAnnotations", "transformerAnnotations", "managedByLabel"];

/// `key:value` pairs; the value may stand in double quotes, and may be missing.
pub(crate) fn pairs(arguments: &[String], what: &str) -> Result<BTreeMap<String, String>, String> {
    let mut pairs = BTreeMap::new();
    for argument in arguments {
        let (key, value) = argument.split_once(':').unwrap_or((argument, ""));
        if key.is_empty() {
            return Err(format!("invalid {what}: '{argument}' (need k:v pair where v may be quoted)"));
        }
        let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        pairs.insert(key.to_owned(), quoted.unwrap_or(value).to_owned());
    }
    Ok(pairs)
}

/// The parts between commas of the only argument.
pub(crate) fn comma_separated(arguments: &[String], what: &str) -> Result<Vec<String>, String> {
    match arguments {
        [] => Err(format!("must specify {what}")),
        [only] => {
            let parts: Vec<String> = only.split(',').map(str::to_owned).collect();
            if parts.iter().any(String::is_empty) {
                return Err(format!("invalid {what}: '' (name is empty)"));
            }
            Ok(parts)
        }
        _ => Err(format!("{what}s must be comma-separated, with no spaces")),
    }
}

/// Names of ConfigMaps or Secrets to remove.
pub(crate) fn names(arguments: &[String], what: &str) -> Result<Vec<String>, String> {
    match arguments {
        [] => Err(format!("at least one {what} name must be specified")),
        [only] => Ok(only.split(',').map(str::to_owned).collect()),
        _ => Err(format!(
            "too many arguments: [{}]; to provide multiple {what}s to remove, please separate {what} names by commas",
            arguments.join(" ")
        )),
    }
}

pub(crate) fn build_metadata(arguments: &[String]) -> Result<Vec<String>, String> {
    match arguments {
        [] => Err("must specify a buildMetadata option".to_owned()),
        [only] => {
            let options: Vec<String> = only.split(',').map(str::to_owned).collect();
            match options.iter().find(|option| !BUILD_METADATA.contains(&option.as_str())) {
                Some(unknown) => Err(format!(
                    "invalid buildMetadata option: {unknown}; known are {}",
                    BUILD_METADATA.join(", ")
                )),
                None => Ok(options),
            }
        }
        _ => Err(format!(
            "too many arguments: [{}]; to provide multiple buildMetadata options, please separate options by comma",
            arguments.join(" ")
        )),
    }
}

/// `name=count`.
pub(crate) fn replicas(arguments: &[String]) -> Result<Vec<(String, i64)>, String> {
    if arguments.is_empty() {
        return Err("no replicas specified".to_owned());
    }
    let count = |argument: &String| {
        let (name, count) = argument.split_once('=')?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    arguments
        .iter()
        .map(|argument| {
            count(argument).ok_or_else(|| {
                format!("invalid format of replica '{argument}', use the following format: <name>=<count>")
            })
        })
        .collect()
}

const IMAGE_FORMS: &str = "use one of the following options:
- <image>=<newimage>:<newtag>
- <image>=<newimage>@<digest>
- <image>=<newimage>:<newtag>@<digest>
- <image>=<newimage>
- <image>:<newtag>
- <image>:<newtag>@<digest>
- <image>@<digest>";

pub(crate) fn images(arguments: &[String]) -> Result<Vec<ImageChange>, String> {
    if arguments.is_empty() {
        return Err("no image specified".to_owned());
    }
    arguments.iter().map(|argument| image(argument)).collect()
}

fn image(argument: &str) -> Result<ImageChange, String> {
    let (name, value) = match argument.split_once('=') {
        Some((name, value)) => (Some(name), value),
        None => (None, argument),
    };
    let (image, tag, digest) = split_image(value);
    if image == argument {
        return Err(format!("invalid format of image '{argument}', {IMAGE_FORMS}"));
    }
    Ok(ImageChange {
        name: name.unwrap_or(image).to_owned(),
        new_name: if name.is_some() { part(image) } else { Part::None },
        new_tag: part(tag),
        digest: part(digest),
    })
}

fn part(text: &str) -> Part {
    match text {
        "" => Part::None,
        KEEP => Part::Keep,
        text => Part::Is(text.to_owned()),
    }
}

/// Whether Kubernetes takes this for an annotation's key: an optional domain, then a name of at most 63 characters.
pub(crate) fn is_annotation_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let fits = |text: &str, longest: usize, inner: &str| {
        let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        text.len() <= longest
            && is_end(text.chars().next())
            && is_end(text.chars().next_back())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || inner.contains(c))
    };
    let is_domain = |text: &str| fits(text, 253, "-.") && text.starts_with(|c: char| c.is_ascii_alphabetic());
    prefix.is_none_or(is_domain) && fits(name, 63, "-_.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_a_name_and_what_it_becomes() {
        let is = |text: &str| Part::Is(text.to_owned());
        let found = image("ngnix=localhost:5000/my/ngnix:1@sha256:00").expect("an image");
        let expected = ImageChange {
            name: "ngnix".to_owned(),
            new_name: is("localhost:5000/my/ngnix"),
            new_tag: is("1"),
            digest: is("sha256:00"),
        };
        assert_eq!(found, expected);
        let found = image("a=*:*").expect("an image");
        assert_eq!((found.new_name, found.new_tag), (Part::Keep, Part::Keep));
        let found = image("node:8.15").expect("an image");
        assert_eq!((found.name.as_str(), found.new_name, found.new_tag), ("node", Part::None, is("8.15")));
        assert!(image("node").is_err());
    }

    #[test]
    fn pairs_may_be_quoted_or_lack_a_value() {
        let pairs = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
            super::pairs(&arguments, "label")
        };
        let found = pairs(&["a:1:2", "b:\"x:y\"", "c"]).expect("pairs");
        assert_eq!(found["a"], "1:2");
        assert_eq!(found["b"], "x:y");
        assert_eq!(found["c"], "");
        let error = pairs(&[":nokey"]).expect_err("no key");
        assert_eq!(error, "invalid label: ':nokey' (need k:v pair where v may be quoted)");
    }

    #[test]
    fn keys_of_annotations_follow_their_grammar() {
        for good in ["a", "example.com/a_b.c-d", "9"] {
            assert!(is_annotation_key(good), "{good}");
        }
        for bad in ["", "/a", "a/", "-a", "9.com/a", "a/b/c", "a b"] {
            assert!(!is_annotation_key(bad), "{bad}");
        }
    }
}
