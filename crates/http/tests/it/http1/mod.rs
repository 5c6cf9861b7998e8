//! The codec of HTTP/1.1: functions of bytes, beside hyper's server.

mod ambiguous;
mod limits;
mod responses;
mod streams;
mod valid;

use landfall_http::http1::HeadRules;

const RULES: HeadRules = HeadRules {
    max_head: 64 * 1024,
    both_lengths: false,
};
