//! How a section of a configuration file is described.

use crate::{Reader, Writer};

/// A table of a configuration file: the root, or what stands under a `[header]`.
///
/// Implemented by [`section!`](crate::section!).
pub trait Section: Default {
    /// The comment above the header, one line per element.
    const DOC: &'static [&'static str];

    /// Takes each key out of a table; a key that is missing or unusable gets its default.
    fn read(reader: &mut Reader<'_, '_>) -> Self;

    /// Writes each key with its comment.
    fn write(&self, writer: &mut Writer);
}

/// Describes a section: a struct whose fields are the keys, each with its comment and its default.
///
/// A field without a default is a section within this one; the comment above its header is the
/// doc comment of its own struct. With `#[flatten]`, the keys of that section stand in this one, so
/// that sections may have keys in common. The type of a key must be `Clone + Debug + PartialEq` and
/// (de)serialisable by `serde`. See the [crate documentation](crate) for an example.
#[macro_export]
macro_rules! section {
    (@default $default:expr) => { $default };
    (@default) => { Default::default() };

    (@doc [flatten] $section:ident) => { "Its keys stand in this section." };
    (@doc [$($doc:ident)*] $key:ident $($default:expr)?) => {
        concat!(
            "\n\nIn the file: `", stringify!($key), "`",
            $(", by default `", stringify!($default), "`",)? "."
        )
    };

    (@read $reader:ident [$(doc $doc:literal)+] $key:ident $default:expr) => {
        $reader.key(&[$($doc),+], stringify!($key), $default)
    };
    (@read $reader:ident [] $section:ident) => {
        $reader.section(stringify!($section))
    };
    (@read $reader:ident [flatten] $section:ident) => {
        $crate::Section::read($reader)
    };

    (@write $writer:ident [$(doc $doc:literal)+] $key:ident $value:expr) => {
        $writer.key(&[$($doc),+], stringify!($key), $value)
    };
    (@write $writer:ident [] $section:ident $value:expr) => {
        $writer.section(stringify!($section), $value)
    };
    (@write $writer:ident [flatten] $section:ident $value:expr) => {
        $crate::Section::write($value, $writer)
    };

    (
        $(#[doc = $doc:literal])+
        $visibility:vis struct $name:ident {
            $(
                $(#[$attribute:ident $(= $key_doc:literal)?])*
                pub $key:ident: $type:ty $(= $default:expr)?
            ),+ $(,)?
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq)]
        $visibility struct $name {
            $(
                $($(#[doc = $key_doc])?)*
                #[doc = $crate::section!(@doc [$($attribute)*] $key $($default)?)]
                pub $key: $type,
            )+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $crate::section!(@default $($default)?)),+ }
            }
        }

        impl $crate::Section for $name {
            const DOC: &'static [&'static str] = &[$($doc),+];

            fn read(reader: &mut $crate::Reader<'_, '_>) -> Self {
                Self {
                    $($key: $crate::section!(
                        @read reader [$($attribute $($key_doc)?)*] $key $($default)?
                    )),+
                }
            }

            fn write(&self, writer: &mut $crate::Writer) {
                $($crate::section!(
                    @write writer [$($attribute $($key_doc)?)*] $key &self.$key
                );)+
            }
        }
    };
}
