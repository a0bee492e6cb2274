//! Which known word is meant by one that is not known.

/// How alike two words are, from 0 to 1.
pub(crate) struct Measure {
    of: fn(&str, &str) -> f64,
    /// From here on one may be meant by the other.
    min: f64,
}

/// By letters that are missing, too many, wrong or in each other's place: one of three, at most.
pub(crate) const SLIPS: Measure = Measure {
    of: strsim::normalized_damerau_levenshtein,
    min: 0.66,
};

/// By letters that they have in common, above all at the beginning.
pub(crate) const LETTERS: Measure = Measure {
    of: strsim::jaro_winkler,
    min: 0.8,
};

impl Measure {
    /// The known path that is most like this one. A word alone is a path without a section.
    pub(crate) fn nearest<'k>(
        &self,
        path: &str,
        known: impl Iterator<Item = &'k str>,
    ) -> Option<&'k str> {
        let path = path.to_lowercase();
        known
            .map(|known| (self.likeness(&path, known), known))
            .filter(|(likeness, _)| *likeness >= self.min)
            .max_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, known)| known)
    }

    /// That two keys are of one section makes them no more alike.
    fn likeness(&self, path: &str, known: &str) -> f64 {
        let (section, name) = section_and_name(path);
        let (known_section, known_name) = section_and_name(known);
        let names = (self.of)(name, known_name);
        match section == known_section {
            true => names,
            false => names.min((self.of)(section, known_section)),
        }
    }
}

pub(crate) fn section_and_name(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}
