//! Every check of this crate keeps what all checks must.

use eeveon_health::{
    CheckSpec, CommandCheckSpec, CommandSpec, Ending, HealthCheck, HttpSpec, Pace, Reach, TcpSpec, What,
};
use eeveon_testkit::health::{Looks, Scene, World, check_health};
use tokio::net::TcpSocket;

use crate::common::*;

/// A check before a world.
struct Stage {
    check: Box<dyn HealthCheck>,
    looks: Looks,
    /// Held, so that nobody else comes to listen there.
    _port: Option<TcpSocket>,
}

impl Scene for Stage {
    fn check(&self) -> &dyn HealthCheck {
        &*self.check
    }

    fn looks(&self) -> Option<&Looks> {
        Some(&self.looks)
    }
}

fn patient(world: World, what: What) -> CheckSpec {
    let pace = if world == World::Silent { short() } else { Pace { timeout_ms: 30_000, ..Pace::default() } };
    CheckSpec { name: "web".to_owned(), what, pace }
}

async fn stage(manner: Option<Manner>, what: impl Fn(u16) -> What, world: World) -> Stage {
    let (port, looks, held) = match manner {
        Some(manner) => {
            let server = Server::new(manner).await;
            (server.port, server.looks, None)
        }
        None => {
            let (socket, port) = nobody();
            (port, Looks::default(), Some(socket))
        }
    };
    let check = made(&patient(world, what(port))).await.unwrap();
    Stage { check, looks, _port: held }
}

fn manner(world: World) -> Option<Manner> {
    match world {
        World::Healthy => Some(Manner::Answers(std::sync::Arc::new(|_| answer("200 OK", "", "ok")))),
        World::Unhealthy => {
            let bad = answer("503 Later", "", format!("\u{1b}[2J{}", "bad ".repeat(9000)));
            Some(Manner::Answers(std::sync::Arc::new(move |_| bad.clone())))
        }
        World::Silent => Some(Manner::Hangs(Vec::new())),
        World::Absent => None,
    }
}

#[tokio::test]
async fn http_keeps_it() {
    let what = |port| What::Http(Box::new(HttpSpec::new(format!("http://127.0.0.1:{port}/"))));
    check_health(async |world| Some(stage(manner(world), what, world).await)).await;
}

#[tokio::test]
async fn tcp_keeps_it() {
    let what = |port| What::Tcp(TcpSpec { address: format!("127.0.0.1:{port}") });
    check_health(async |world| match world {
        // Whoever listens is healthy.
        World::Unhealthy | World::Silent => None,
        _ => Some(stage(manner(world), what, world).await),
    })
    .await;
}

#[tokio::test]
async fn command_keeps_it() {
    check_health(async |world| {
        let script = match world {
            World::Healthy => Script::codes([0]),
            World::Unhealthy => Script::new([Some((Ending::Exited(3), "\u{1b}[31mno"))]),
            World::Silent => Script::new([None]),
            // There is no command that is not there: whoever runs it says so.
            World::Absent => return None,
        };
        let what = What::Command(CommandCheckSpec { run: CommandSpec::Line("./check".to_owned()) });
        let looks = script.looks.clone();
        let checks = checks(script, Known::default());
        let check = checks.make(&patient(world, what), Reach::Operator, &origin()).await.unwrap();
        Some(Stage { check, looks, _port: None })
    })
    .await;
}
