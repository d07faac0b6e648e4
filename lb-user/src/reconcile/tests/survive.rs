//! What operators change outlives the edge: the reconciler over a journal that fails and dies, against a model.

use super::*;
use crate::state::testing::{Fault, Memory};
use crate::state::{Book, Opened};
use proptest::prelude::*;

fn opened(memory: &Memory) -> Recovered {
    let Opened { book, found } = Book::over(memory.clone(), std::path::Path::new("/state"), 50).unwrap();
    let overlay = found.history.overlay().clone();
    Recovered { overlay, ids: found.ids, generation: found.generation, book, ..Recovered::default() }
}

impl Edge {
    async fn over(memory: &Memory, text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("edge.toml");
        std::fs::write(&file, text).unwrap();
        Self::again(memory, file, Arc::new(dir)).await
    }

    /// The edge after it was killed, with the file as it is now.
    async fn again(memory: &Memory, file: PathBuf, dir: Arc<tempfile::TempDir>) -> Self {
        let config = config::load(&file).unwrap().config;
        Self::recover(config, file, dir, opened(memory)).await
    }

    async fn transact(&self, changes: Vec<Change>, only_if: OnlyIf) -> Result<Done, Refusal> {
        let asked = Asked { changes, who: Who::named("test"), only_if, dry_run: false };
        self.ask(|reply| Event::Change { asked, reply }).await
    }
}

fn pool(address: &str, change: PoolChange) -> Change {
    Change::Pool { pool: "p".into(), address: address.parse().unwrap(), change }
}

/// What the worker serves by.
fn served(world: &World) -> Vec<(SocketAddr, u16, BackendState)> {
    let snapshot = world.snapshot.lock().unwrap();
    snapshot.pools[0].backends.iter().map(|backend| (backend.address, backend.weight, backend.state)).collect()
}

/// What an overlay says that it is to serve by.
fn wanted(overlay: &Overlay, config: &Config) -> Vec<(SocketAddr, u16, BackendState)> {
    let backends = overlay.effective(config.pool("p").unwrap()).into_iter();
    backends.map(|backend| (backend.address, backend.weight, super::super::state(backend.mark, None))).collect()
}

fn change() -> impl Strategy<Value = Change> {
    let address = (1u8..5).prop_map(|n| SocketAddr::from(([10, 0, 0, n], 80)));
    let of_pool = prop_oneof![
        3 => prop::option::of(1u16..4).prop_map(|weight| PoolChange::Add { weight }),
        1 => Just(PoolChange::Remove),
        1 => Just(PoolChange::Drain { seconds: None }),
        1 => Just(PoolChange::Enable),
        1 => Just(PoolChange::Disable),
        1 => (1u16..4).prop_map(|weight| PoolChange::Weight { weight }),
    ];
    prop_oneof![
        9 => (address, of_pool).prop_map(|(address, change)| Change::Pool { pool: "p".into(), address, change }),
        1 => Just(Change::Reset { pool: None }),
        1 => (0u64..9).prop_map(|number| Change::Rollback { number }),
    ]
}

#[derive(Debug, Clone)]
enum Step {
    Changes(Vec<Change>),
    /// The same, while the worker takes nothing.
    Refused(Vec<Change>),
    /// The same, while the datapath takes nothing.
    Failed(Vec<Change>),
    Reload(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let changes = || prop::collection::vec(change(), 1..4);
    prop_oneof![
        6 => changes().prop_map(Step::Changes),
        2 => changes().prop_map(Step::Refused),
        1 => changes().prop_map(Step::Failed),
        1 => any::<bool>().prop_map(Step::Reload),
    ]
}

fn fault() -> impl Strategy<Value = Option<Fault>> {
    let fault = (0usize..14, 1usize..4, any::<usize>(), any::<bool>());
    prop::option::weighted(0.8, fault.prop_map(|(at, count, part, dies)| Fault { at, count, part, dies }))
}

/// One life of an edge, and what the disk holds after it.
async fn live(memory: &Memory, edge: &Edge, steps: Vec<Step>, model: &mut Overlay) -> Result<Vec<u8>, TestCaseError> {
    let mut unsure = vec![];
    for step in steps {
        let config = Config::clone(&*edge.state().await.config);
        let changes = match step {
            Step::Reload(more) => {
                let text = if more { with_service_b() } else { FILE.to_owned() };
                edge.reload(&text).await.unwrap();
                *model = edge.state().await.overlay;
                continue;
            }
            Step::Changes(changes) => changes,
            Step::Refused(changes) => {
                *edge.world.worker_refuses.lock().unwrap() = true;
                changes
            }
            Step::Failed(changes) => {
                *edge.world.datapath_refuses.lock().unwrap() = true;
                changes
            }
        };
        let before = edge.state().await;
        // What it would be, by the pure overlay; a rollback by the history.
        let next = changes.iter().try_fold(before.overlay.clone(), |overlay, change| match change {
            Change::Pool { pool, address, change } => overlay.with(&config, pool, *address, *change).ok(),
            Change::Reset { .. } => Some(Overlay::default()),
            Change::Rollback { number } => Some(before.history.at(*number).ok()?.over(&config)),
            Change::Rule(_) => None,
        });
        let done = edge.transact(changes, OnlyIf::default()).await;
        match (&done, next) {
            (Ok(done), Some(next)) => {
                if done.number.is_some() {
                    unsure.clear();
                }
                *model = next;
            }
            (Ok(_), None) => prop_assert!(false, "made, though it makes no sense"),
            (Err(Refusal::NotKept(_) | Refusal::Worker(_) | Refusal::Datapath(_)), Some(next)) => unsure.push(next),
            (Err(other), Some(_)) => prop_assert!(false, "{other}"),
            (Err(_), None) => {}
        }
        *edge.world.worker_refuses.lock().unwrap() = false;
        *edge.world.datapath_refuses.lock().unwrap() = false;
        // In force is what was answered, whatever the disk does.
        prop_assert_eq!(&edge.state().await.overlay, &*model);
        if memory.dead() {
            break;
        }
    }
    let bytes = memory.bytes();
    let there = crate::state::read(&bytes).history.overlay().clone();
    if unsure.contains(&there) && there != *model {
        *model = there;
    }
    Ok(bytes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Changes, refusals, reloads, disks that fail; the edge dies between any two steps of the disk; the next one is as the
    /// journal says, and as was answered.
    #[test]
    fn an_edge_that_dies_comes_back_as_it_was(
        lives in prop::collection::vec((prop::collection::vec(step(), 1..8), fault()), 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut memory = Memory::default();
            let mut edge = Edge::over(&memory, FILE).await;
            let mut model = Overlay::default();
            let (mut generation, mut changes) = (0, 0);
            for (steps, fault) in lives {
                memory.fail(fault);
                let bytes = live(&memory, &edge, steps, &mut model).await?;
                let died = edge.state().await;
                // The dead edge has the old one yet.
                memory = Memory::of(&bytes);
                edge = Edge::again(&memory, edge.file.clone(), Arc::clone(&edge.dir)).await;
                let state = edge.state().await;
                let over = model.over(&state.config);
                prop_assert_eq!(&state.overlay, &over);
                prop_assert_eq!(served(&edge.world), wanted(&over, &state.config));
                prop_assert!(state.book.lost.is_none() && state.book.trouble.is_none(), "{:?}", state.book);
                prop_assert_eq!(state.ids.id("a"), died.ids.id("a"));
                // No number is given twice, of generations that were told or of changes.
                prop_assert!(state.generation > generation, "{} after {}", state.generation, generation);
                prop_assert!(state.history.last() >= changes || fault.is_some());
                (generation, changes) = (state.generation, state.history.last());
                model = state.overlay;
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_transaction_is_made_whole_or_not_at_all() {
    let edge = Edge::over(&Memory::default(), FILE).await;
    let add = pool("10.0.0.2:80", PoolChange::Add { weight: Some(3) });
    let done = edge
        .transact(vec![add, pool("10.0.0.1:80", PoolChange::Drain { seconds: None })], OnlyIf::default())
        .await
        .unwrap();
    assert_eq!((done.number, done.kept.as_deref()), (Some(1), Some(std::path::Path::new("/state"))));
    assert_eq!(
        done.steps,
        [
            "pool p: 10.0.0.1:80: enabled, weight 1 -> draining, weight 1".to_owned(),
            "pool p: 10.0.0.2:80: none -> enabled, weight 3".to_owned(),
            format!("the worker gets generation {}", done.generation),
        ]
    );
    let bad = vec![pool("10.0.0.2:80", PoolChange::Remove), pool("10.0.0.9:80", PoolChange::Drain { seconds: None })];
    let error = edge.transact(bad, OnlyIf::default()).await.unwrap_err();
    assert!(matches!(error, Refusal::Part { index: 1, .. }), "{error}");
    assert_eq!(served(&edge.world).len(), 2);
    // The same again differs from nothing, and is no change.
    let same =
        edge.transact(vec![pool("10.0.0.1:80", PoolChange::Drain { seconds: None })], OnlyIf::default()).await.unwrap();
    assert_eq!((same.number, same.generation), (None, done.generation));
}

#[tokio::test]
async fn whoever_builds_on_what_was_overtaken_is_refused() {
    let edge = Edge::over(&Memory::default(), FILE).await;
    let seen = OnlyIf { if_generation: Some(edge.state().await.generation), if_change: None };
    // What the checks say makes a generation, and overtakes nobody.
    edge.verdict(false).await;
    assert!(edge.transact(vec![pool("10.0.0.1:80", PoolChange::Drain { seconds: None })], seen).await.is_ok());
    let error = edge.transact(vec![pool("10.0.0.1:80", PoolChange::Enable)], seen).await.unwrap_err();
    assert!(matches!(error, Refusal::Overtaken { what: "generation", .. }), "{error}");
    let last = |number| OnlyIf { if_generation: None, if_change: Some(number) };
    assert!(edge.transact(vec![pool("10.0.0.1:80", PoolChange::Enable)], last(0)).await.is_err());
    assert!(edge.transact(vec![pool("10.0.0.1:80", PoolChange::Enable)], last(1)).await.is_ok());
    let reload = Event::Reload { who: Who::named("test"), only_if: last(1), reply: oneshot::channel().0 };
    edge.events.send(reload).await.unwrap();
    assert_eq!(edge.state().await.reloads, (0, 1));
}

#[tokio::test]
async fn a_file_that_the_changes_do_not_go_with_starts_alone() {
    let memory = Memory::default();
    let nat = |name: &str, port: u16| {
        format!(
            "[service.{name}]\nmode = \"l4\"\nforward = \"nat\"\naddresses = [\"192.0.2.1:{port}\"]\npool = \"{name}\"\n[pool.{name}]\nbackends = [\"10.0.0.{port}:53\"]\n"
        )
    };
    let text = |more: &str| format!("[edge]\ndatapath = \"generic\"\ninterfaces = [\"lo\"]\n{}{more}", nat("a", 53));
    let edge = Edge::over(&memory, &text("")).await;
    let address = ([10, 0, 0, 54], 53).into();
    let change = Change::Pool { pool: "a".into(), address, change: PoolChange::Add { weight: None } };
    edge.transact(vec![change], OnlyIf::default()).await.unwrap();
    // Another service has that backend now, and two cannot.
    std::fs::write(&edge.file, text(&nat("b", 54))).unwrap();
    let edge = Edge::again(&memory, edge.file.clone(), Arc::clone(&edge.dir)).await;
    let state = edge.state().await;
    assert!(state.aside.as_ref().is_some_and(|why| why.contains("10.0.0.54")), "{:?}", state.aside);
    assert_eq!((state.overlay, state.history.last()), (Overlay::default(), 2));
    // Mended, and back.
    edge.reload(&text("")).await.unwrap();
    edge.transact(vec![Change::Rollback { number: 1 }], OnlyIf::default()).await.unwrap();
    let state = edge.state().await;
    assert_eq!((state.overlay.effective(state.config.pool("a").unwrap()).len(), state.aside), (2, None));
}
