//! Concatenation.

use landfall_protocol::{Concat, Create, DeclaredLength, InvalidConcat, Syntax};

use crate::{ALL, headers};

fn urls(sent: &str) -> Vec<String> {
    match Concat::parse(sent) {
        Ok(Concat::Final { urls, .. }) => urls,
        other => panic!("{sent:?} is {other:?}"),
    }
}

#[test]
fn final_upload_lists_its_parts_in_order() {
    assert_eq!(urls("final;/files/a /files/b"), ["/files/a", "/files/b"]);
    assert_eq!(urls("final;http://h/files/b a"), ["http://h/files/b", "a"]);
}

#[test]
fn part_may_occur_twice() {
    assert_eq!(urls("final;/a /a"), ["/a", "/a"]);
}

#[test]
fn blanks_in_the_list_are_ignored() {
    assert_eq!(urls("final; /a  \t/b "), ["/a", "/b"]);
    for empty in ["final;", "final; ", "final;\t \t"] {
        assert_eq!(
            Concat::parse(empty),
            Err(InvalidConcat::NoParts),
            "{empty:?}"
        );
    }
    let most = format!("final;{}", "/a ".repeat(Concat::MAX_PARTS));
    assert_eq!(urls(&most).len(), Concat::MAX_PARTS);
    assert_eq!(
        Concat::parse(&format!("{most}/b")),
        Err(InvalidConcat::TooMany)
    );
}

#[test]
fn header_is_stored_exactly() {
    let sent = "final; /a  http://h/files/b";
    let Ok(Concat::Final { header, .. }) = Concat::parse(sent) else {
        panic!()
    };
    assert_eq!(header, sent);
}

#[test]
fn final_upload_length_is_optional() {
    let list = ("upload-concat", "final;/a");
    let declared =
        |sent| Create::parse(&sent, ALL, None, Syntax::Strict).map(|create| create.declared);
    assert_eq!(declared(headers([list])), Ok(DeclaredLength::SumOfParts));
    assert_eq!(
        declared(headers([list, ("upload-length", "5")])),
        Ok(DeclaredLength::Known(5))
    );
    assert_eq!(
        declared(headers([list, ("upload-defer-length", "1")])),
        Ok(DeclaredLength::SumOfParts)
    );
}

#[test]
fn metadata_is_that_of_the_final_upload() {
    let sent = headers([("upload-concat", "final;/a"), ("upload-metadata", "k dg==")]);
    let create = Create::parse(&sent, ALL, None, Syntax::Strict).unwrap();
    assert_eq!(create.metadata.get("k"), Some(&b"v"[..]));
}
