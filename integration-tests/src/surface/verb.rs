//! The public methods.

use fastrand::Rng;

/// The kind of a method, for a judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Looks a key up.
    Looks,
    /// Looks a key up, and loads it if it is not cached.
    Loads,
    /// Loads a key even if it is cached, and replaces its entry.
    Reloads,
    /// Stores a value.
    Stores,
    /// Invalidates on every node.
    Forgets,
    /// Expires on every node.
    Expires,
}

macro_rules! verbs {
    ($($verb:ident $owner:literal $name:literal $kind:ident $weight:literal,)*) => {
        /// A public method.
        #[expect(missing_docs, reason = "each is named for its method")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Verb { $($verb,)* }

        impl Verb {
            /// All methods.
            pub const ALL: &[Self] = &[$(Self::$verb,)*];

            /// The type and the name of the method.
            #[must_use]
            pub fn method(self) -> (&'static str, &'static str) {
                match self { $(Self::$verb => ($owner, $name),)* }
            }

            /// The kind of the method.
            #[must_use]
            pub fn kind(self) -> Kind {
                match self { $(Self::$verb => Kind::$kind,)* }
            }

            fn weight(self) -> u32 {
                match self { $(Self::$verb => $weight,)* }
            }
        }
    };
}

verbs! {
    Get "TieredCache" "get" Looks 12,
    Contains "TieredCache" "contains" Looks 3,
    GetMany "TieredCache" "get_many" Looks 4,
    GetOrLoad "TieredCache" "get_or_load" Loads 30,
    GetOrLoadWith "TieredCache" "get_or_load_with" Loads 6,
    GetOrLoadOptional "TieredCache" "get_or_load_optional" Loads 12,
    GetManyOrLoad "TieredCache" "get_many_or_load" Loads 10,
    Warm "TieredCache" "warm" Loads 2,
    WarmMany "TieredCache" "warm_many" Loads 2,
    Load "TieredCache" "data_loader" Loads 5,
    LoadEach "TieredCache" "data_loader_each" Loads 3,
    LoaderLoad "DataLoader" "load" Loads 3,
    LoaderLoadMany "DataLoader" "load_many" Loads 3,
    Refresh "TieredCache" "refresh" Reloads 4,
    RefreshWith "TieredCache" "refresh_with" Reloads 2,
    RefreshOptional "TieredCache" "refresh_optional" Reloads 2,
    Insert "TieredCache" "insert" Stores 3,
    InsertMany "TieredCache" "insert_many" Stores 2,
    LoaderPrime "DataLoader" "prime" Stores 1,
    Invalidate "TieredCache" "invalidate" Forgets 5,
    InvalidateMany "TieredCache" "invalidate_many" Forgets 2,
    InvalidateEncoded "TieredCache" "invalidator" Forgets 1,
    InvalidateTag "TieredCache" "invalidate_tag" Forgets 2,
    InvalidateTags "TieredCache" "invalidate_tags" Forgets 1,
    InvalidateAll "TieredCache" "invalidate_all" Forgets 1,
    Expire "TieredCache" "expire" Expires 3,
    ExpireMany "TieredCache" "expire_many" Expires 1,
    ExpireTag "TieredCache" "expire_tag" Expires 1,
    ExpireTags "TieredCache" "expire_tags" Expires 1,
    LoaderClear "DataLoader" "clear" Forgets 1,
    LoaderClearAll "DataLoader" "clear_all" Forgets 1,
}

impl Verb {
    /// Draws a method that `wanted` accepts.
    ///
    /// # Panics
    ///
    /// If it accepts none.
    #[must_use]
    pub fn draw(rng: &mut Rng, wanted: impl Fn(Self) -> bool) -> Self {
        let total: u32 = Self::ALL.iter().filter(|verb| wanted(**verb)).map(|verb| verb.weight()).sum();
        let mut at = rng.u32(..total);
        for verb in Self::ALL.iter().copied().filter(|verb| wanted(*verb)) {
            match at.checked_sub(verb.weight()) {
                Some(rest) => at = rest,
                None => return verb,
            }
        }
        unreachable!("the draw is below the total")
    }

    /// Whether it takes several keys.
    #[must_use]
    pub fn takes_many(self) -> bool {
        matches!(
            self,
            Self::GetMany
                | Self::GetManyOrLoad
                | Self::Warm
                | Self::WarmMany
                | Self::Load
                | Self::LoadEach
                | Self::LoaderLoadMany
                | Self::InsertMany
                | Self::InvalidateEncoded
                | Self::InvalidateMany
                | Self::ExpireMany
        )
    }

    /// Whether it changes what has a tag.
    #[must_use]
    pub fn is_about_tags(self) -> bool {
        matches!(self, Self::InvalidateTag | Self::InvalidateTags | Self::ExpireTag | Self::ExpireTags)
    }

    /// Whether it may return an absence.
    #[must_use]
    pub fn takes_absence(self) -> bool {
        matches!(
            self,
            Self::GetOrLoadOptional
                | Self::RefreshOptional
                | Self::GetManyOrLoad
                | Self::WarmMany
                | Self::Load
                | Self::LoadEach
                | Self::LoaderLoad
                | Self::LoaderLoadMany
        )
    }

    /// Whether its request has `at_least`.
    #[must_use]
    pub fn takes_stamp(self) -> bool {
        matches!(
            self,
            Self::Get
                | Self::GetMany
                | Self::GetOrLoad
                | Self::GetOrLoadWith
                | Self::GetOrLoadOptional
                | Self::GetManyOrLoad
                | Self::Refresh
                | Self::RefreshWith
                | Self::RefreshOptional
        )
    }

    /// Whether its request has `skip_l1`.
    #[must_use]
    pub fn skips_l1(self) -> bool {
        self.is_traced() || matches!(self, Self::GetMany | Self::GetManyOrLoad)
    }

    /// Whether its request has `traced`.
    #[must_use]
    pub fn is_traced(self) -> bool {
        matches!(self, Self::Get | Self::GetOrLoad | Self::GetOrLoadWith | Self::GetOrLoadOptional)
    }

    /// Whether its loader receives the previous value.
    #[must_use]
    pub fn tells_previous(self) -> bool {
        matches!(self, Self::GetOrLoadWith | Self::RefreshWith)
    }
}
