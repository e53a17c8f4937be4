//! One conversation with a mail server: connect, protect, log in, hand over a letter, leave.
//!
//! Source: RFC 5321, <https://www.rfc-editor.org/rfc/rfc5321>

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use eeveon_core::{Secret, Untrusted};
use mail_send::{
    Credentials, Error, SmtpClient,
    smtp::{AssertReply as _, message::Parameters},
};
use smtp_proto::{AUTH_LOGIN, AUTH_PLAIN, AUTH_XOAUTH2, EXT_START_TLS, Response};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        self, ClientConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use super::{Mailbox, Tls};
use crate::{NotifyError, authorities, http::hide};

/// How much of an answer is shown, in characters.
const SHOWN_CHARS: usize = 300;

/// How long a server may take to say good-bye.
const GOOD_BYE: Duration = Duration::from_secs(2);

/// A mail server and how to speak to it.
pub(super) struct Server {
    pub(super) channel: String,
    pub(super) helo: String,
    host: String,
    port: u16,
    tls: Tls,
    /// Whether it is this very machine.
    here: bool,
    connector: TlsConnector,
    timeout: Duration,
}

/// Who we are. It has no `Debug` on purpose.
pub(super) struct Login {
    credentials: Credentials<String>,
    /// The ways of logging in that may be used, in bits of `smtp_proto`.
    mechanisms: u64,
    /// What must not be told, should a server send it back.
    hidden: Vec<String>,
}

/// A letter and where it goes.
pub(super) struct Envelope<'a> {
    pub(super) from: &'a Mailbox,
    pub(super) to: &'a [&'a Mailbox],
    pub(super) letter: &'a [u8],
}

/// A recipient the server did not take, while the connection went on.
pub(super) struct Refused {
    pub(super) address: String,
    /// Whether it may take it later.
    pub(super) later: bool,
    /// What it said, free of secrets.
    pub(super) answer: String,
}

impl Login {
    pub(super) fn password(user: &str, password: Secret) -> Self {
        let (user, password) = (user.to_owned(), password.expose().to_owned());
        let hidden = vec![
            STANDARD.encode(format!("\0{user}\0{password}")),
            STANDARD.encode(&password),
            password.clone(),
        ];
        let credentials = Credentials::Plain { username: user, secret: password };
        Self { credentials, mechanisms: AUTH_PLAIN | AUTH_LOGIN, hidden }
    }

    pub(super) fn token(user: &str, token: Secret) -> Self {
        let (user, token) = (user.to_owned(), token.expose().trim().to_owned());
        let hidden = vec![
            STANDARD.encode(format!("user={user}\x01auth=Bearer {token}\x01\x01")),
            STANDARD.encode(&token),
            token.clone(),
        ];
        let credentials = Credentials::XOauth2 { username: user, secret: token };
        Self { credentials, mechanisms: AUTH_XOAUTH2, hidden }
    }
}

/// What was said about a recipient.
type Reply<'a> = (&'a Mailbox, Response<String>);

/// What went wrong, and at what: the same answer means different things at different times.
struct Trouble {
    at: At,
    error: Error,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum At {
    /// Before anything was handed over.
    Greeting,
    /// Proving who we are.
    Login,
    /// Handing over the letter.
    Letter,
}

impl At {
    fn trouble(self) -> impl Fn(Error) -> Trouble + Copy {
        move |error| Trouble { at: self, error }
    }
}

impl Server {
    pub(super) fn new(
        channel: String,
        host: String,
        port: Option<u16>,
        tls: Option<Tls>,
        ca_file: Option<&Path>,
        helo: String,
        timeout: Duration,
    ) -> Result<Self, NotifyError> {
        let config = |why: String| NotifyError::Config { channel: channel.clone(), why };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if ServerName::try_from(host.as_str()).is_err() {
            return Err(config("`host` is the name or the address of a mail server".to_owned()));
        }
        let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let tls = tls.unwrap_or(match port {
            Some(465) => Tls::Implicit,
            _ if here => Tls::None,
            _ => Tls::Starttls,
        });
        let port = port.unwrap_or(match tls {
            Tls::Starttls => 587,
            Tls::Implicit => 465,
            Tls::None => 25,
        });
        let connector = connector(ca_file).map_err(config)?;
        Ok(Self { channel, helo, host, port, tls, here, connector, timeout })
    }

    /// Tells whether others can listen on the way.
    pub(super) fn can_be_overheard(&self) -> bool {
        self.tls == Tls::None && !self.here
    }

    /// Has one conversation: with an envelope it is handed over, without one the server is only
    /// asked whether it is well. Returns the recipients that were refused. If that is all of them
    /// the server does not have the letter; else it has, for the others.
    pub(super) async fn converse(
        &self,
        login: Option<Login>,
        envelope: Option<&Envelope<'_>>,
    ) -> Result<Vec<Refused>, NotifyError> {
        let whole = timeout(self.timeout.saturating_mul(4), self.connect(login.as_ref(), envelope)).await;
        let hidden = login.as_ref().map_or(&[][..], |login| &login.hidden);
        match whole.unwrap_or_else(|_| Err(At::Greeting.trouble()(Error::Timeout))) {
            Ok(refused) => Ok(refused
                .into_iter()
                .map(|(whom, reply)| Refused {
                    address: whom.address().to_owned(),
                    later: reply.code < 500,
                    answer: shown(&reply, hidden),
                })
                .collect()),
            Err(trouble) => Err(self.explain(trouble, hidden)),
        }
    }

    async fn connect<'a>(
        &self,
        login: Option<&Login>,
        envelope: Option<&Envelope<'a>>,
    ) -> Result<Vec<Reply<'a>>, Trouble> {
        let greeting = At::Greeting.trouble();
        let client = self.tcp().await.map_err(greeting)?;
        match self.tls {
            Tls::None => self.talk(client, login, envelope).await,
            Tls::Starttls => {
                let client = self.protect(client).await.map_err(greeting)?;
                self.talk(client, login, envelope).await
            }
            Tls::Implicit => {
                let client = async {
                    let mut client = client.into_tls(&self.connector, &self.host).await?;
                    self.greeting(&mut client).await?;
                    Ok(client)
                };
                let client = client.await.map_err(greeting)?;
                self.talk(client, login, envelope).await
            }
        }
    }

    /// Connects, and without implicit TLS reads the greeting.
    async fn tcp(&self) -> Result<SmtpClient<TcpStream>, Error> {
        let stream = timeout(self.timeout, TcpStream::connect((self.host.as_str(), self.port)));
        let stream = stream.await.map_err(|_| Error::Timeout)??;
        // A letter is written in pieces; they are not to wait for each other's receipts.
        stream.set_nodelay(true)?;
        let mut client = SmtpClient { stream, timeout: self.timeout };
        if self.tls != Tls::Implicit {
            self.greeting(&mut client).await?;
        }
        Ok(client)
    }

    async fn greeting<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        client: &mut SmtpClient<S>,
    ) -> Result<(), Error> {
        // `read` alone of all has no limit of its own.
        let answer = timeout(self.timeout, client.read()).await.map_err(|_| Error::Timeout)??;
        answer.assert_positive_completion()
    }

    /// Changes to TLS. Nothing of what was said in the clear is believed afterwards.
    async fn protect(
        &self,
        mut client: SmtpClient<TcpStream>,
    ) -> Result<SmtpClient<tokio_rustls::client::TlsStream<TcpStream>>, Error> {
        let offered = client.ehlo(&self.helo).await?;
        match offered.has_capability(EXT_START_TLS) {
            true => client.start_tls(&self.connector, &self.host).await,
            false => Err(Error::MissingStartTls),
        }
    }

    /// Logs in, hands over and leaves. Returns which recipients were refused.
    async fn talk<'a, S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut client: SmtpClient<S>,
        login: Option<&Login>,
        envelope: Option<&Envelope<'a>>,
    ) -> Result<Vec<Reply<'a>>, Trouble> {
        let mut offered = client.ehlo(&self.helo).await.map_err(At::Greeting.trouble())?;
        if let Some(login) = login {
            // Of what it cannot do the library begins an exchange all the same, and never ends it.
            offered.auth_mechanisms &= login.mechanisms;
            client.authenticate(&login.credentials, &offered).await.map_err(At::Login.trouble())?;
        }
        let refused = match envelope {
            None => client.noop().await.map(|()| Vec::new()).map_err(At::Greeting.trouble())?,
            Some(envelope) => hand_over(&mut client, envelope).await.map_err(At::Letter.trouble())?,
        };
        // The letter is theirs already: how they take the good-bye changes nothing, and whoever waited
        // for a slow one could take the letter for lost, and send it again.
        let _parted = timeout(GOOD_BYE, client.quit()).await;
        Ok(refused)
    }

    fn explain(&self, trouble: Trouble, hidden: &[String]) -> NotifyError {
        let channel = self.channel.clone();
        let config = |why: &str| NotifyError::Config { channel: self.channel.clone(), why: why.to_owned() };
        let unreachable = |why: String| NotifyError::Unreachable { channel: self.channel.clone(), why };
        let Trouble { at, error } = trouble;
        match error {
            Error::AuthenticationFailed(reply) | Error::UnexpectedReply(reply) => {
                let answer = Untrusted::from(shown(&reply, hidden));
                match (reply.code, at) {
                    // 530: RFC 4954, 6. The others answer a login.
                    (530 | 534 | 535 | 538, _) => NotifyError::Login { channel, answer },
                    // 334: it goes on asking, however often it was answered.
                    (334 | 500.., At::Login) => NotifyError::Login { channel, answer },
                    (500.., _) => NotifyError::Refused { channel, answer },
                    // X.7.x: policy, such as a limit or greylisting. RFC 3463, 3.8.
                    (400.., At::Letter) if matches!(reply.esc, [4, 7, _]) => {
                        NotifyError::Throttled { channel, after: None, answer }
                    }
                    _ => unreachable(answer.for_terminal()),
                }
            }
            Error::Tls(error) => match *error {
                rustls::Error::InvalidCertificate(why) => {
                    NotifyError::Certificate { channel, why: why.to_string() }
                }
                error => unreachable(format!("no TLS connection: {error}")),
            },
            Error::MissingStartTls => config(
                "the server does not offer STARTTLS, so nothing was sent; see `tls` for other protection",
            ),
            Error::UnsupportedAuthMechanism => config("the server knows none of our ways of logging in"),
            Error::InvalidTLSName => config("`host` is the name or the address of a mail server"),
            Error::Timeout => unreachable(format!("no answer within {} ms", self.timeout.as_millis())),
            Error::Io(error) => unreachable(error.to_string()),
            Error::UnparseableReply => unreachable("it hung up, or does not speak SMTP".to_owned()),
            Error::Auth(_) | Error::Base64(_) => unreachable("it asked for what we do not know".to_owned()),
            Error::MissingCredentials | Error::MissingMailFrom | Error::MissingRcptTo => {
                config("there is no sender or no recipient")
            }
        }
    }
}

/// Hands over a letter. Returns the recipients that were refused; when all were, the server did not
/// get the letter.
async fn hand_over<'a, S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut SmtpClient<S>,
    envelope: &Envelope<'a>,
) -> Result<Vec<Reply<'a>>, Error> {
    let plain = Parameters::new();
    client.mail_from(envelope.from.address(), &plain).await?;
    let mut refused = Vec::new();
    for recipient in envelope.to {
        match client.rcpt_to(recipient.address(), &plain).await {
            Ok(()) => {}
            // 421: it is about to hang up, RFC 5321, 3.8. 530: it wants a login.
            Err(Error::UnexpectedReply(reply)) if !matches!(reply.code, 421 | 530) => {
                refused.push((*recipient, reply));
            }
            Err(error) => return Err(error),
        }
    }
    if refused.len() < envelope.to.len() {
        client.data(envelope.letter).await?;
    }
    Ok(refused)
}

/// Returns an answer, shortened, without anything that must not be told.
fn shown(reply: &Response<String>, hidden: &[String]) -> String {
    let [class, subject, detail] = reply.esc;
    let status = match class {
        0 => reply.code.to_string(),
        _ => format!("{} {class}.{subject}.{detail}", reply.code),
    };
    let text: String = hide(&reply.message, hidden).chars().take(SHOWN_CHARS).collect();
    format!("{status} {}", text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Makes what checks certificates: by the authorities of the machine, and those of `ca_file`.
fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, String> {
    let mut extra = Vec::new();
    if let Some(path) = ca_file {
        let unusable = |why: String| format!("the authorities in {}: {why}", path.display());
        let pem = authorities::read(path).map_err(unusable)?;
        extra = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|_| unusable("not PEM".to_owned()))?;
        if extra.is_empty() {
            return Err(unusable("there are none".to_owned()));
        }
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let unusable = |error: rustls::Error| format!("certificates cannot be checked: {error}");
    let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(extra, Arc::clone(&provider))
        .map_err(unusable)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        // What rustls calls dangerous is any verifier but its own; this one is of the same house.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
