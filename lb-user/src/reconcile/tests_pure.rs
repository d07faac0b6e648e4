//! Properties of the plan and of the overlay.

use super::agents::Agents;
use super::overlay::{Mark, Overlay, PoolChange};
use super::plan::{Health, Intent, Observed, Plan, plan};
use super::testing;
use crate::config::Config;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use tls_worker::api::BackendState;

fn address() -> impl Strategy<Value = SocketAddr> {
    (1u8..6).prop_map(|n| SocketAddr::from(([10, 0, 0, n], 80)))
}

fn config() -> impl Strategy<Value = Config> {
    let services = prop::collection::btree_set("[a-e]", 0..5);
    let backends = prop::collection::btree_map(address(), 1u16..4, 0..4);
    (services, backends, 2u32..6).prop_map(|(services, backends, max_services)| {
        let names: Vec<&str> = services.iter().map(String::as_str).collect();
        let mut config = testing::config(&names, backends);
        config.edge.max_services = max_services;
        config
    })
}

fn change() -> impl Strategy<Value = PoolChange> {
    prop_oneof![
        prop::option::of(1u16..4).prop_map(|weight| PoolChange::Add { weight }),
        Just(PoolChange::Remove),
        prop::option::of(0u32..9).prop_map(|seconds| PoolChange::Drain { seconds }),
        Just(PoolChange::Enable),
        Just(PoolChange::Disable),
        (1u16..4).prop_map(|weight| PoolChange::Weight { weight }),
    ]
}

fn overlay(config: &Config, changes: &[(SocketAddr, PoolChange)]) -> Overlay {
    changes.iter().fold(Overlay::default(), |overlay, (address, change)| {
        overlay.with(config, "p", *address, *change).unwrap_or(overlay)
    })
}

fn carried_out(plan: Plan, observed: &Observed) -> Observed {
    Observed {
        generation: plan.snapshot.as_ref().map_or(observed.generation, |s| s.generation),
        snapshot: plan.snapshot.map(std::sync::Arc::new).or_else(|| observed.snapshot.clone()),
        datapath: plan.datapath.or_else(|| observed.datapath.clone()),
        rules: plan.rules,
        ids: plan.ids,
    }
}

proptest! {
    #[test]
    fn a_plan_carried_out_leaves_nothing_to_do(
        config in config(),
        changes in prop::collection::vec((address(), change()), 0..8),
        health in prop::collection::btree_map((Just("p".to_owned()), address()), any::<bool>(), 0..4),
    ) {
        let overlay = overlay(&config, &changes);
        let intent = Intent { config: &config, overlay: &overlay, health: &health, agents: &Agents::default() };
        let Ok(first) = plan(intent, &Observed::default()) else { return Ok(()) };
        let after = carried_out(first, &Observed::default());
        let second = plan(intent, &after).unwrap();
        prop_assert!(second.snapshot.is_none() && second.datapath.is_none(), "{second:?}");
        prop_assert_eq!(second.ids, after.ids);
    }

    #[test]
    fn ids_are_unique_and_kept_and_generations_rise(configs in prop::collection::vec(config(), 1..8)) {
        let mut observed = Observed::default();
        for config in &configs {
            let (overlay, health, agents) = Default::default();
            let intent = Intent { config, overlay: &overlay, health: &health, agents: &agents };
            let Ok(next) = plan(intent, &observed) else {
                prop_assert!(config.services.len() > config.edge.max_services as usize);
                continue;
            };
            if let Some(snapshot) = &next.snapshot {
                prop_assert!(snapshot.generation > observed.generation);
            }
            let after = carried_out(next, &observed);
            let services = &after.datapath.as_ref().unwrap().services;
            let ids: BTreeSet<u32> = services.iter().map(|s| s.id).collect();
            prop_assert_eq!(ids.len(), config.services.len());
            for service in services {
                prop_assert!(service.id >= 1);
                if let Some(before) = observed.ids.id(&service.name) {
                    prop_assert_eq!(before, service.id);
                }
            }
            observed = after;
        }
    }

    #[test]
    fn what_is_asked_for_is_what_is_served(
        config in config(),
        changes in prop::collection::vec((address(), change()), 0..8),
        up in any::<bool>(),
    ) {
        let overlay = overlay(&config, &changes);
        let pool = config.pool("p").unwrap();
        // A second bookkeeping, the plain way.
        let mut model: std::collections::BTreeMap<SocketAddr, (u16, Mark)> =
            pool.backends.iter().map(|(address, weight)| (*address, (*weight, Mark::Enabled))).collect();
        for (address, change) in &changes {
            match (change, model.get_mut(address)) {
                (PoolChange::Add { weight }, None) => {
                    model.insert(*address, (weight.unwrap_or(1), Mark::Enabled));
                }
                (PoolChange::Remove, Some(_)) => {
                    model.remove(address);
                }
                (PoolChange::Drain { .. }, Some(entry)) => entry.1 = Mark::Draining,
                (PoolChange::Enable, Some(entry)) => entry.1 = Mark::Enabled,
                (PoolChange::Disable, Some(entry)) => entry.1 = Mark::Disabled,
                (PoolChange::Weight { weight }, Some(entry)) => entry.0 = *weight,
                _ => {}
            }
        }
        let effective: Vec<_> = overlay.effective(pool).into_iter().map(|b| (b.address, (b.weight, b.mark))).collect();
        prop_assert_eq!(effective, model.clone().into_iter().collect::<Vec<_>>());
        prop_assert_eq!(overlay.over(&config), overlay.clone());

        let health: Health = model.keys().map(|address| (("p".to_owned(), *address), up)).collect();
        let snapshot = super::plan::build_snapshot(Intent { config: &config, overlay: &overlay, health: &health, agents: &Agents::default() }, 1);
        for backend in &snapshot.pools[0].backends {
            let wanted = match (model[&backend.address].1, up) {
                (Mark::Disabled, _) => BackendState::Disabled,
                (Mark::Draining, _) => BackendState::Draining,
                (Mark::Enabled, true) => BackendState::Up,
                (Mark::Enabled, false) => BackendState::Down,
            };
            prop_assert_eq!(backend.state, wanted);
        }
    }

    #[test]
    fn a_file_that_says_the_same_empties_the_overlay(
        config in config(),
        changes in prop::collection::vec((address(), change()), 0..8),
    ) {
        let overlay = overlay(&config, &changes);
        let pool = config.pool("p").unwrap();
        let mut file = config.clone();
        file.pools[0].backends = overlay.effective(pool).iter().map(|b| (b.address, b.weight)).collect();
        let over = overlay.over(&file);
        let backends = over.effective(&file.pools[0]);
        prop_assert!(backends.iter().all(|b| !b.changed || b.mark != Mark::Enabled), "{:?}", backends);
        prop_assert!(over.removed(&file.pools[0]).is_empty());
    }
}

#[test]
fn changes_that_cannot_be_are_refused_with_the_reason() {
    let config = testing::config(&["a"], [(SocketAddr::from(([10, 0, 0, 1], 80)), 1)].into());
    let refused = |pool: &str, address: [u8; 4], change| {
        Overlay::default().with(&config, pool, SocketAddr::from((address, 80)), change).unwrap_err().to_string()
    };
    assert_eq!(refused("q", [10, 0, 0, 1], PoolChange::Drain { seconds: None }), "there is no pool \"q\"");
    assert_eq!(
        refused("p", [10, 0, 0, 2], PoolChange::Drain { seconds: None }),
        "pool \"p\" has no backend 10.0.0.2:80"
    );
    assert!(refused("p", [10, 0, 0, 1], PoolChange::Add { weight: None }).contains("already"));
    assert!(refused("p", [10, 0, 0, 1], PoolChange::Weight { weight: 300 }).contains("1 to 256"));
}
