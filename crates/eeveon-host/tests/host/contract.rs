//! The contracts every deployer and every traffic passes.

use crate::common::Scene;

#[tokio::test]
async fn the_contracts_hold() {
    eeveon_testkit::deployer::run_all(async || Scene::new()).await;
}

#[tokio::test]
async fn the_contracts_hold_where_commands_run() {
    eeveon_testkit::deployer::run_all(async || Scene::with(|options| options.commands_run = true)).await;
}
