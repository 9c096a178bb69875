//! Ways around the limit for failed logins.

use nodegate_standin::{API_TOKEN, Product, forged_ticket};

use super::place::Place;
use super::stranger::{Answer, Job, count, request};
use crate::support::nodegate::eventually;

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
                let verified = place.verified(&client);
                println!("{format}, {}: {verified} of {GUESSES} judged", way.name());
                assert_eq!(verified, LIMIT, "{format}, {}", way.name());
            }
        });
    });
}

/// A right guess is answered at once and a wrong one after three seconds, so the client leaves and tries the next.
fn assert_guesses_stop_at_the_limit(leave: fn(Job) -> Vec<Answer>) {
    Place::visit(Product::Pmg, "", &[THREE], |place| {
        place.everywhere(|way| {
            let mut guesses: Vec<_> = (0..GUESSES).map(|number| way.guess("json", number)).collect();
            guesses.push(way.right("json"));
            let mut job = way.job(guesses);
            job.pause = 0.4;
            let answers = leave(job);
            let (verified, found) = (way.verified(), count(&answers, 200));
            println!("{}: {verified} of {} judged, {found} found", way.name(), GUESSES + 1);
            assert!(verified <= LIMIT, "{}: {verified} judged", way.name());
            // On a slow machine clients leave before they are heard. Then fewer wrong guesses than the limit are verified.
            let wrong = verified.saturating_sub(found);
            assert!(wrong < LIMIT || found == 0, "{}: the password was found: {answers:?}", way.name());
        });
    });
}

#[test]
fn guesses_that_are_given_up_are_counted() {
    assert_guesses_stop_at_the_limit(Job::leaving);
}

#[test]
fn guesses_whose_connection_closes_are_counted() {
    assert_guesses_stop_at_the_limit(Job::closing);
}

#[test]
fn dripping_bodies_lock_out_no_user() {
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

#[test]
fn concurrent_tokens_stop_at_the_limit() {
    Place::visit(Product::Pve, "", &[THREE], |place| {
        place.everywhere(|way| {
            let token = |number: usize| {
                let text = API_TOKEN.replace("5f0c", &format!("{number:04}"));
                let headers = [("Authorization", format!("PVEAPIToken={text}"))];
                let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
                request("GET", "/api2/json/version", &headers, "")
            };
            let answers = way.job((0..GUESSES).map(token).collect()).at_once();
            println!("{}: {} of {GUESSES} judged", way.name(), way.verified());
            assert_eq!(way.verified(), LIMIT, "{}: {answers:?}", way.name());
            assert_eq!(count(&answers, 429), GUESSES - LIMIT, "{}: {answers:?}", way.name());
        });
    });
}

/// Each costs a verification, so guesses at pages count like guesses at calls.
#[test]
fn forged_tickets_at_pages_count() {
    Place::visit(Product::Pmg, "", &[THREE], |place| {
        place.everywhere(|way| {
            let forged = |number: usize| {
                let cookie = format!("PMGAuthCookie={}", forged_ticket("PMG", "root@pam", number));
                request("GET", "/quarantine", &[("Cookie", &cookie)], "")
            };
            let answers = way.job((0..=LIMIT).map(forged).collect()).in_turn();
            let mut status = 0;
            eventually("the address has used up its guesses", || {
                status = way.honest_login().status;
                status == 429
            });
            assert_eq!(count(&answers, 200), LIMIT + 1, "{}: {answers:?}", way.name());
            println!("{}: {} pages, then a login {status}", way.name(), answers.len());
        });
    });
}
