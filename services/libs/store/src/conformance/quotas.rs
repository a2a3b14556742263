//! How much organizations may do.

use std::time::Duration;

use super::World;
use crate::quota::Slice;

pub async fn a_rate_is_shared_by_all_who_take_from_it(mut world: World) {
    let take = async |world: &World, organization: &str, a_second, wanted| {
        let organization = organization.parse().unwrap();
        world.store.quotas.slice(&organization, a_second, wanted, world.at()).await.unwrap()
    };
    let of = |granted, millis| Slice { granted, again: Duration::from_millis(millis) };
    // Two seconds' worth may be used at once.
    assert_eq!(take(&world, "acme", 10, 15).await, of(15, 0));
    assert_eq!(take(&world, "acme", 10, 15).await, of(5, 0), "the rest");
    assert_eq!(take(&world, "acme", 10, 1).await, of(0, 100));
    assert_eq!(take(&world, "other", 10, 1).await, of(1, 0), "others have their own");
    world.pass(Duration::from_millis(250));
    assert_eq!(take(&world, "acme", 10, 9).await, of(2, 0));
    assert_eq!(take(&world, "acme", 10, 9).await, of(0, 50), "halves are not lost");
    world.pass(Duration::from_millis(50));
    assert_eq!(take(&world, "acme", 10, 9).await, of(1, 0));
    world.pass(Duration::from_secs(60));
    assert_eq!(take(&world, "acme", 10, 100).await, of(20, 0), "no more than two seconds' worth");
    world.pass(Duration::from_millis(100));
    assert_eq!(take(&world, "acme", 1_000, 500).await, of(100, 0), "another rate holds at once");
}
