//! Ways around the limit for failed logins.

use nodegate_standin::Product;

use super::place::Place;
use super::stranger::{Answer, Job, count};

const LIMIT: usize = 3;
const THREE: &str = "limits.login_failures=3";
const GUESSES: usize = 9;

/// The forms in which the daemon may be asked to answer; what nodegate cannot read shows no ticket, so it is a failure.
const FORMATS: [&str; 6] = ["json", "extjs", "html", "htmljs", "htmlmail", "x1"];

#[test]
fn guesses_in_every_format_are_counted() {
    Place::visit(Product::Pmg, "", &[THREE], |place| {
        place.everywhere(|way| {
            let clients: Vec<_> = FORMATS.iter().map(|format| (*format, place.next_client())).collect();
            let guesses = clients.iter().flat_map(|(format, client)| {
                (0..GUESSES).map(move |number| {
                    let mut guess = way.guess(format, number);
                    guess["from"] = client.as_str().into();
                    guess
                })
            });
            way.job(guesses.collect()).at_once();
            for (format, client) in clients {
                let judged = place.judged(&client);
                println!("{format}, {}: {judged} of {GUESSES} judged", way.name());
                assert_eq!(judged, LIMIT, "{format}, {}", way.name());
            }
        });
    });
}

/// A right guess is answered at once and a wrong one after three seconds, so the client leaves and tries the next.
fn judges_to_the_limit(leave: fn(Job) -> Vec<Answer>) {
    Place::visit(Product::Pmg, "", &[THREE], |place| {
        place.everywhere(|way| {
            let mut guesses: Vec<_> = (0..GUESSES).map(|number| way.guess("json", number)).collect();
            guesses.push(way.right("json"));
            let mut job = way.job(guesses);
            job.pause = 0.4;
            let answers = leave(job);
            let (judged, found) = (way.judged(), count(&answers, 200));
            println!("{}: {judged} of {} judged, {found} found", way.name(), GUESSES + 1);
            assert!(judged <= LIMIT, "{}: {judged} judged", way.name());
            // On a slow machine a client may have left before it was heard.
            assert!(judged < LIMIT || found == 0, "{}: the password was found: {answers:?}", way.name());
        });
    });
}

#[test]
fn guesses_that_are_given_up_are_counted() {
    judges_to_the_limit(Job::leaving);
}

#[test]
fn guesses_whose_connection_closes_are_counted() {
    judges_to_the_limit(Job::closing);
}

#[test]
fn bodies_that_drip_lock_nobody_out() {
    Place::visit(Product::Pmg, "", &[THREE], |place| {
        place.everywhere(|way| {
            let mut login = way.guess("json", 0);
            login["length"] = 4000.into();
            let mut job = way.job(vec![login; 2 * LIMIT]);
            job.pause = 0.5;
            let held = job.hold();
            let reply = way.honest_login();
            println!("{}: the honest login got {}", way.name(), reply.status);
            assert_eq!(reply.status, 200, "{}: {}", way.name(), reply.text());
            drop(held);
        });
    });
}
