//! What handlers of one object remember between calls, for as long as the process and the object live.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// One value per type. Cloning shares it.
#[derive(Clone, Default)]
pub struct Memo {
    values: Arc<Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>>,
}

impl Memo {
    /// The remembered `T`, made with `make` when there is none yet.
    pub fn get_or_insert_with<T: Send + Sync + 'static>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let mut values = self.values.lock();
        let known = values.get(&TypeId::of::<T>()).and_then(|known| known.clone().downcast::<T>().ok());
        known.unwrap_or_else(|| {
            let made = Arc::new(make());
            values.insert(TypeId::of::<T>(), made.clone());
            made
        })
    }

    /// The remembered `T`, or its default.
    pub fn get<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        self.get_or_insert_with(T::default)
    }

    /// Remembers `value` in place of the `T` before.
    pub fn set<T: Send + Sync + 'static>(&self, value: T) {
        self.values.lock().insert(TypeId::of::<T>(), Arc::new(value));
    }
}
