//! From what a plan says to a check that looks.

use std::sync::Arc;

use eeveon_core::{Registry, Secrets};

use crate::{
    CheckSpec, Commands, Gate, HealthCheck, HealthError, Origin, Reach, Verify, Watch, What,
    command::CommandCheck,
    http::HttpCheck,
    reach::{Names, Resolver, SystemNames},
    tcp::TcpCheck,
};

/// Makes checks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Checks {
    commands: Arc<dyn Commands>,
    secrets: Arc<dyn Secrets>,
    names: Arc<dyn Names>,
}

impl Checks {
    /// Makes a maker of checks that runs commands by `commands` and finds secrets in `secrets`.
    pub fn new(commands: Arc<dyn Commands>, secrets: Arc<dyn Secrets>) -> Self {
        Self { commands, secrets, names: Arc::new(SystemNames) }
    }

    /// Makes the check that `spec` describes, looking for the step `origin`.
    ///
    /// # Errors
    ///
    /// `health/invalid` when the spec is not valid, `reach` does not permit it, or its certificates
    /// cannot be read.
    pub async fn make(
        &self,
        spec: &CheckSpec,
        reach: Reach,
        origin: &Origin,
    ) -> Result<Box<dyn HealthCheck>, HealthError> {
        spec.validate()?;
        spec.permitted(reach)?;
        let resolver = Resolver { names: Arc::clone(&self.names), reach };
        let (name, pace) = (spec.name.clone(), spec.pace.clone());
        Ok(match &spec.what {
            What::Http(http) => {
                let (http, secrets) = (http.clone(), Arc::clone(&self.secrets));
                let made = move || HttpCheck::new(&name, &http, &pace, resolver, secrets);
                let broken = |_| HealthError::invalid(&spec.name, "url", "its client could not be made");
                Box::new(tokio::task::spawn_blocking(made).await.map_err(broken)??)
            }
            What::Tcp(tcp) => Box::new(TcpCheck::new(&name, tcp, &pace, resolver)?),
            What::Command(command) => Box::new(CommandCheck {
                name,
                command: command.run.clone(),
                pace,
                origin: origin.clone(),
                commands: Arc::clone(&self.commands),
            }),
        })
    }

    /// Teaches `registry` all verbs of this crate.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(Gate(self.clone())).register(Watch(self.clone())).register(Verify(self.clone()));
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use eeveon_core::{
        CommitId, DeploymentId, ProjectName, ReleaseNumber, Secret, SecretError, SecretRef, StepError,
        StepKey,
    };
    use tokio::{io::AsyncReadExt as _, net::TcpListener};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        CommandEnd, CommandJob, HttpSpec, Pace, ProbeError, Reading, Subject, TcpSpec, reach::tests::Flipping,
    };

    #[derive(Debug)]
    struct Nothing;

    #[async_trait]
    impl Commands for Nothing {
        async fn run(&self, _: CommandJob<'_>, _: &CancellationToken) -> Result<CommandEnd, StepError> {
            panic!("no command is to run")
        }
    }

    impl Secrets for Nothing {
        fn reveal(&self, _: &SecretRef) -> Result<Secret, SecretError> {
            panic!("no secret is to be read")
        }
    }

    /// Looks once, as somebody who may only reach public addresses.
    async fn public(what: What, names: Arc<dyn Names>) -> Result<Result<Reading, ProbeError>, HealthError> {
        let checks = Checks { commands: Arc::new(Nothing), secrets: Arc::new(Nothing), names };
        let spec = CheckSpec { name: "web".to_owned(), what, pace: Pace::default() };
        let origin = Origin { deployment: DeploymentId(1), step: StepKey::new("health/1"), undo: false };
        let subject = Subject {
            project: ProjectName::new("shop").unwrap(),
            release: ReleaseNumber(1),
            commit: CommitId::new("c".repeat(40)).unwrap(),
            folder: "/".into(),
        };
        Ok(checks.make(&spec, Reach::Public, &origin).await?.probe(&subject).await)
    }

    fn http(url: impl Into<String>) -> What {
        What::Http(Box::new(HttpSpec::new(url)))
    }

    fn tcp(address: impl Into<String>) -> What {
        What::Tcp(TcpSpec { address: address.into() })
    }

    fn inside() -> Arc<Flipping> {
        Flipping::new(vec![vec!["127.0.0.1"]])
    }

    #[tokio::test]
    async fn ssrf_no_form_of_a_private_address_is_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let hosts = [
            "127.0.0.1",
            "127.1",
            "127.0.1",
            "0",
            "0.0.0.0",
            "2130706433",
            "0x7f000001",
            "0x7f.0.0.1",
            "0177.0.0.1",
            "017700000001",
            "127.0.0.1.",
            "１２７.0.0.1",
            "①②⑦.⓪.⓪.①",
            "127。0。0。1",
            "%31%32%37.0.0.1",
            "[::1]",
            "[::]",
            "[0000::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "[64:ff9b::127.0.0.1]",
            "[2002:7f00:1::]",
            "169.254.169.254",
            "0xa9fea9fe",
            "2852039166",
            "[fd00:ec2::254]",
            "10.0.0.1",
            "localhost",
            "LOCALHOST.",
            "metadata.google.internal",
            "localtest.me",
            "127.0.0.1.nip.io",
        ];
        for host in hosts {
            for what in [http(format!("http://{host}:{port}/")), tcp(format!("{host}:{port}"))] {
                let shown = format!("{what:?}");
                let seen = public(what, inside()).await.unwrap();
                assert!(matches!(seen, Err(ProbeError::Denied { .. })), "{shown}: {seen:?}");
            }
        }
        assert!(tokio::time::timeout(std::time::Duration::ZERO, listener.accept()).await.is_err());
    }

    #[tokio::test]
    async fn ssrf_every_payload_of_the_collection_is_refused() {
        let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures");
        let folder = std::env::var("EEVEON_FIXTURES").unwrap_or_else(|_| fixtures.to_owned());
        let Ok(files) = std::fs::read_dir(format!("{folder}/ssrf-payloads/Server Side Request Forgery"))
        else {
            eprintln!("skipped: no collection of payloads in {folder}/ssrf-payloads");
            return;
        };
        let mut payloads = Vec::new();
        for file in files {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let code = text.split("```").skip(1).step_by(2).map(str::to_owned);
            let inline = text.split('`').skip(1).step_by(2).map(str::to_owned);
            let words = code
                .chain(inline)
                .flat_map(|it| it.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
            payloads.extend(words.filter(|word| word.contains(':')));
        }
        assert!(payloads.len() > 50, "{payloads:?}");
        for payload in payloads {
            // Whatever the attacker's name server says, it says an inner address. Addresses that are
            // public are none of our business.
            let is_public =
                |url: reqwest::Url| url.host_str().is_some_and(|host| ["1.1.1.1"].contains(&host));
            if reqwest::Url::parse(&payload).is_ok_and(is_public) {
                continue;
            }
            match public(http(&payload), inside()).await {
                Err(error) => assert!(matches!(error, HealthError::Invalid { .. }), "{payload}: {error}"),
                Ok(seen) => assert!(matches!(seen, Err(ProbeError::Denied { .. })), "{payload}: {seen:?}"),
            }
        }
    }

    #[tokio::test]
    async fn ssrf_a_name_is_asked_for_once_and_what_was_checked_is_connected_to() {
        // Were the name asked for again to connect, the answer would be another.
        let names = Flipping::new(vec![vec!["127.0.0.1"], vec!["192.0.2.1"]]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let resolver = Resolver { names: Arc::clone(&names) as _, reach: Reach::Operator };
        let spec = HttpSpec::new(format!("http://rebind.example:{port}/"));
        let check = HttpCheck::new("web", &spec, &Pace::default(), resolver, Arc::new(Nothing)).unwrap();
        let subject = Subject {
            project: ProjectName::new("shop").unwrap(),
            release: ReleaseNumber(1),
            commit: CommitId::new("c".repeat(40)).unwrap(),
            folder: "/".into(),
        };
        let (seen, ()) = tokio::join!(check.probe(&subject), async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 1024];
            let count = stream.read(&mut head).await.unwrap();
            assert!(String::from_utf8_lossy(&head[..count]).contains("rebind.example"));
        });
        assert!(matches!(seen, Err(ProbeError::Protocol(_))), "{seen:?}");
        assert_eq!(names.asked(), 1);
        // And the second answer alone would not do for a check that may not reach inside.
        let names = Flipping::new(vec![vec!["1.1.1.1", "127.0.0.1"]]);
        let seen = public(http("http://rebind.example/"), names).await.unwrap();
        assert!(matches!(seen, Err(ProbeError::Denied { .. })), "{seen:?}");
    }

    #[tokio::test]
    async fn ssrf_nothing_of_this_machine_is_for_checks_of_strangers() {
        let with = |change: fn(&mut HttpSpec)| {
            let mut spec = HttpSpec::new("https://example.org/");
            change(&mut spec);
            What::Http(Box::new(spec))
        };
        let secret = crate::HeaderValue::Secret(SecretRef::Env("AWS_SECRET".to_owned()));
        let mut headers = HttpSpec::new("https://example.org/");
        headers.headers.insert("X-A".to_owned(), secret);
        let run = crate::CommandSpec::Line("id".to_owned());
        for (what, key) in [
            (with(|it| it.ca_file = Some("/etc/passwd".into())), "ca_file"),
            (
                with(|it| {
                    it.url = "http://example.org/".to_owned();
                    it.socket = Some("/run/docker.sock".into());
                }),
                "socket",
            ),
            (What::Http(Box::new(headers)), "headers"),
            (What::Command(crate::CommandCheckSpec { run }), "run"),
        ] {
            match public(what, inside()).await {
                Err(HealthError::Invalid { key: found, .. }) => assert_eq!(found, key),
                other => panic!("{key}: {other:?}"),
            }
        }
    }
}
