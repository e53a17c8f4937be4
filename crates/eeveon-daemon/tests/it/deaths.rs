//! When a commit is put aside because whoever deployed it died.

use eeveon_daemon::deaths::{
    Past::{self, Died, Ended, Stopped},
    is_deadly,
};

#[test]
fn every_third_death_in_a_row_puts_a_commit_aside() {
    let cases: [(&[Past], bool); 9] = [
        (&[], false),
        (&[Died], false),
        (&[Died, Died], true),
        (&[Died, Stopped, Died], true),
        (&[Died, Ended, Died], false),
        (&[Ended, Died, Died], false),
        // Somebody lifted it: three more.
        (&[Died, Died, Died], false),
        (&[Died, Died, Died, Died], false),
        (&[Died, Died, Died, Died, Died], true),
    ];
    for (before, deadly) in cases {
        assert_eq!(is_deadly(before.iter().copied()), deadly, "{before:?}");
    }
}
