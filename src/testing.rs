//! The parts of nodegate that the black-box tests and the fuzz targets call directly: parsers of foreign bytes, and
//! decisions. No other program should use them; they change without notice.

/// Authentication: tickets, API tokens, CSRF tokens.
pub mod auth {
    pub use crate::auth::authenticator::{Authenticator, TicketClient};
    pub use crate::auth::credential_cache::CredentialHeader;
    pub use crate::auth::csrf;
    pub use crate::auth::ticket;
}

/// Profiles and settings.
pub mod config {
    pub use crate::config::grammar::SignatureScheme;
    pub use crate::config::page::VariableKind;
    pub use crate::config::product::AuthRules;
    pub use crate::config::root::RootDirectory;
    pub use crate::config::settings::rows;
    pub use crate::config::shell;
    pub use crate::config::{Config, ConfigSources, built_in_file, built_in_profile};
}

/// The formats that the handlers read.
pub mod handler {
    pub use crate::handler::console::decoder::{FrameDecoder, StreamEnd};
    pub use crate::handler::console::handshake::WebSocketHandshake;
    pub use crate::handler::console::target::{ConsoleRules, ConsoleTarget};
    pub use crate::handler::page::sanitized::SanitizedValue;
    pub use crate::handler::page::template::{RenderError, RenderedTemplate, Template, TemplateSyntax};
    pub use crate::handler::upload::fields::FormFields;
    pub use crate::handler::upload::form::{FormReader, find_boundary};
    pub use crate::handler::upload::spool::{SpoolBounds, SpoolDirectory};
    pub use crate::limits::min_rate::MinRate;
    pub use crate::metrics::counters::UploadGauges;
}

/// Requests, targets and routes.
pub mod http {
    pub use crate::http::api_grammar::ApiGrammar;
    pub use crate::http::compression::{ContentCoding, negotiate};
    pub use crate::http::reserved_field::ReservedField;
    pub use crate::http::target::{ApiPath, RequestTarget, query_parameters, query_value};
    pub use crate::http::validate;
    pub use crate::proxy::router::{Route, RouteRules};
    pub use crate::state::shared::HeaderNames;
}

/// Addresses and proxies.
pub mod net {
    pub use crate::net::acl::{AddressList, NetworkSet};
    pub use crate::net::forwarded::{trusted_client_address, untrusted_client_address};
    pub use crate::net::forwarded_host::host_names;
    pub use crate::net::ip_range::{AddressRange, parse_entry, parse_list};
    pub use crate::net::proxy_protocol::{encode_header, parse_client};
}

/// Answers of daemons and nodes.
pub mod upstream {
    pub use crate::upstream::body_decoder::{BodyDecoder, DecodedPiece};
    pub use crate::upstream::nodes::{NodeFile, NodeTable, parse_members, parse_sections};
    pub use crate::upstream::response_head::{self, ResponseHead};
    pub use crate::upstream::scheduler::call::{CallOutcome, QueueLimit, Ticket};
    pub use crate::upstream::scheduler::choice::Scheduler;
    pub use crate::upstream::scheduler::{
        BackendScheduler, CallTemplate, ClientGroup, ScheduledCall, SchedulerLimits,
    };
}

/// Verdicts on the answers of daemons.
pub mod verdict {
    pub use crate::verdict::api_answer::ApiAnswer;
    pub use crate::verdict::login::LoginCalls;
    pub use crate::verdict::shown::ShownMembers;
    pub use crate::verdict::token::{self, TokenCheck};
    pub use crate::verdict::{AnswerView, CredentialVerdict, permission, upload};
}
