//! How far the receiver has answered, in a small file: `{"segment":3,"offset":4096}`.

use std::fs;
use std::io::Write;
use std::path::Path;

use gantry_tsdb::wal::Place;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Kept {
    segment: u32,
    offset: u64,
}

/// The kept place; `None` when there is none that can be read.
pub(super) fn load(file: &Path) -> Option<Place> {
    let text = fs::read_to_string(file).ok()?;
    match serde_json::from_str::<Kept>(&text) {
        Ok(kept) => Some(Place { segment: kept.segment, offset: kept.offset }),
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "the place of a queue cannot be read; it begins anew");
            None
        }
    }
}

/// Keeps a place; the file is the old one or the new one, whenever the process dies.
pub(super) fn store(file: &Path, place: Place) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let kept = Kept { segment: place.segment, offset: place.offset };
    let new = file.with_extension("tmp");
    let mut out = fs::File::create(&new)?;
    out.write_all(serde_json::to_string(&kept).map_err(std::io::Error::other)?.as_bytes())?;
    out.sync_data()?;
    fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("remote").join("a.json");
        assert_eq!(load(&file), None);
        let place = Place { segment: 7, offset: 1 << 33 };
        store(&file, place).unwrap();
        assert_eq!(load(&file), Some(place));
        fs::write(&file, "{").unwrap();
        assert_eq!(load(&file), None);
    }
}
