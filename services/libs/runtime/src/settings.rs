//! Settings of a service: a TOML file, the names of the older platform, then `WAYSTATION_<SERVICE>__<KEY>`; each
//! overrides the one before.

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use config::{Config, Environment, File, FileFormat};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use waystation_telemetry::LogFormat;
use waystation_telemetry::traces::TraceSettings;

/// How long callers keep a gRPC connection, unless it is said otherwise.
pub const CONNECTION_AGE: Duration = Duration::from_secs(300);

/// What every service's settings hold under `[process]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessSettings {
    /// How log lines are written.
    pub log: LogFormat,
    /// How long a stop may take, in seconds.
    pub stop_grace_seconds: u64,
    /// Whether callers may ask for the gRPC contract.
    pub reflection: bool,
    /// How long callers keep a gRPC connection, in seconds; then they connect anew, as others may have come. 0: as long as
    /// both live.
    pub connection_age_seconds: u64,
    /// Which messages are traced, and where to.
    pub traces: TraceSettings,
}

impl Default for ProcessSettings {
    fn default() -> Self {
        ProcessSettings {
            log: LogFormat::Json,
            stop_grace_seconds: 30,
            reflection: false,
            connection_age_seconds: CONNECTION_AGE.as_secs(),
            traces: TraceSettings::default(),
        }
    }
}

/// Settings cannot be used. The text names the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(String);

impl SettingsError {
    /// A value that cannot be used.
    pub fn of(key: &str, problem: impl fmt::Display) -> SettingsError {
        SettingsError(format!("{key}: {problem}"))
    }
}

/// A secret, given in the settings or in a file of its own, as container platforms mount them.
///
/// # Errors
/// If both or, unless it may be absent, none are given, or the file cannot be read.
pub fn secret(
    key: &str,
    text: Option<SecretString>,
    file: Option<&Path>,
) -> Result<Option<SecretString>, SettingsError> {
    match (text, file) {
        (Some(_), Some(_)) => Err(SettingsError::of(key, format!("is given twice, here and in {key}_file"))),
        (Some(text), None) => Ok(Some(text)),
        (None, None) => Ok(None),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path);
            let text = text
                .map_err(|error| SettingsError::of(&format!("{key}_file"), format!("{}: {error}", path.display())))?;
            Ok(Some(SecretString::from(text.trim_end_matches(['\r', '\n']))))
        }
    }
}

/// Reads a value that may be left out; empty: it is.
///
/// # Errors
/// If it is malformed.
pub fn optional<T: FromStr>(key: &str, text: &str) -> Result<Option<T>, SettingsError>
where
    T::Err: Display,
{
    let value = (!text.is_empty()).then(|| text.parse::<T>()).transpose();
    value.map_err(|error| SettingsError::of(key, error))
}

/// Like [`secret`], but it must be there and have so many bytes at least.
///
/// # Errors
/// If it is not.
pub fn required_secret(
    key: &str,
    text: Option<SecretString>,
    file: Option<&Path>,
    least: usize,
) -> Result<SecretString, SettingsError> {
    let found = secret(key, text, file)?;
    let found = found.ok_or_else(|| SettingsError::of(key, format!("is needed, or {key}_file")))?;
    if found.expose_secret().len() < least {
        return Err(SettingsError::of(key, format!("must have at least {least} bytes")));
    }
    Ok(found)
}

/// Where settings come from.
pub struct Sources<'a> {
    /// Name of the service, lower case.
    pub service: &'a str,
    /// The TOML file.
    pub file: Option<PathBuf>,
    /// Names of the older platform, and the keys that they stand for.
    pub older: &'a [(&'a str, &'a str)],
    /// The environment.
    pub environment: HashMap<String, String>,
    /// Keys that hold lists, as `redis.urls`; in the environment their elements stand between commas.
    pub lists: &'a [&'a str],
}

impl Sources<'_> {
    /// Reads settings.
    ///
    /// # Errors
    /// If the file cannot be read, a key is unknown, or a value is of another kind.
    pub fn read<S: DeserializeOwned>(self) -> Result<S, SettingsError> {
        let failed = |error: config::ConfigError| SettingsError(error.to_string());
        let mut builder = Config::builder();
        if let Some(path) = &self.file {
            builder = builder.add_source(File::from(path.as_path()).format(FileFormat::Toml));
        }
        let mut older = Config::builder();
        for (name, key) in self.older {
            older = older.set_override_option(*key, self.environment.get(*name).cloned()).map_err(failed)?;
        }
        let prefix = format!("WAYSTATION_{}", self.service.to_uppercase());
        let mut texts = self.environment;
        let mut lists = Config::builder();
        for key in self.lists {
            let text = texts.remove(&format!("{prefix}__{}", key.replace('.', "__").to_uppercase()));
            let list = text.map(|text| text.split(',').map(|one| one.trim().to_owned()).collect::<Vec<_>>());
            lists = lists.set_override_option(*key, list).map_err(failed)?;
        }
        // Values stay texts until their key says what they are: a secret of digits is no number.
        let environment = Environment::with_prefix(&prefix).prefix_separator("__").separator("__").source(Some(texts));
        let builder = builder.add_source(older.build().map_err(failed)?);
        let builder = builder.add_source(environment).add_source(lists.build().map_err(failed)?);
        builder.build().and_then(Config::try_deserialize).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Example {
        path: String,
        wait_ms: u64,
        names: Vec<String>,
        inner: Inner,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Inner {
        on: bool,
    }

    fn read(file: &str, environment: &[(&str, &str)]) -> Result<Example, String> {
        let mut kept = tempfile::NamedTempFile::new().unwrap();
        kept.write_all(file.as_bytes()).unwrap();
        let sources = Sources {
            service: "example",
            file: Some(kept.path().into()),
            older: &[("WS_PATH", "path"), ("WS_WAIT", "wait_ms")],
            environment: environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            lists: &["names"],
        };
        sources.read().map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_overrides_older_names_and_these_the_file() {
        let file = "path = \"/file\"\nwait_ms = 1\nnames = [\"a\"]\n[inner]\non = false\n";
        assert_eq!(read(file, &[]).unwrap().path, "/file");
        let older = [("WS_PATH", "/older"), ("WS_WAIT", "2")];
        let found = read(file, &older).unwrap();
        assert_eq!((found.path.as_str(), found.wait_ms), ("/older", 2));
        let both = [
            ("WS_PATH", "/older"),
            ("WAYSTATION_EXAMPLE__PATH", "/newer"),
            ("WAYSTATION_EXAMPLE__INNER__ON", "true"),
            ("WAYSTATION_EXAMPLE__NAMES", "b, c"),
            ("WAYSTATION_OTHER__PATH", "/other"),
        ];
        let expected = Example {
            path: "/newer".into(),
            wait_ms: 1,
            names: vec!["b".into(), "c".into()],
            inner: Inner { on: true },
        };
        assert_eq!(read(file, &both).unwrap(), expected);
    }

    #[test]
    fn what_is_not_known_or_of_another_kind_is_refused_by_name() {
        assert!(read("pth = \"/x\"", &[]).unwrap_err().contains("pth"));
        assert!(read("", &[("WAYSTATION_EXAMPLE__INNER__OF", "1")]).unwrap_err().contains("of"));
        let wrong = read("wait_ms = \"soon\"", &[]).unwrap_err();
        assert!(wrong.contains("wait_ms"), "{wrong}");
        assert!(read("path = ", &[]).is_err());
    }

    #[test]
    fn texts_of_digits_stay_texts() {
        assert_eq!(read("", &[("WAYSTATION_EXAMPLE__PATH", "00012345678901234567890")]).unwrap().path.len(), 23);
    }

    #[test]
    fn secrets_come_from_one_place() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"0123456789\n").unwrap();
        let read = secret("pepper", None, Some(file.path())).unwrap().unwrap();
        assert_eq!(read.expose_secret(), "0123456789");
        let twice = secret("pepper", Some("x".into()), Some(file.path())).unwrap_err();
        assert!(twice.to_string().contains("pepper"));
        assert!(required_secret("pepper", None, Some(file.path()), 32).unwrap_err().to_string().contains("32"));
        assert!(required_secret("pepper", None, None, 1).unwrap_err().to_string().contains("pepper_file"));
        assert!(secret("pepper", None, Some(Path::new("/not/there"))).unwrap_err().to_string().contains("/not/there"));
    }
}
