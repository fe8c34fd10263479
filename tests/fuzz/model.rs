//! JSON as its definition has it (RFC 8259), read naively: by recursion, everything kept, nothing shared with the product.

/// Deeper texts are not modelled.
const MAX_DEPTH: usize = 200;

/// A value, and the text it was written as.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node<'a> {
    pub(crate) raw: &'a str,
    pub(crate) value: Json<'a>,
}

/// A string is `None` when its escapes are no characters.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json<'a> {
    Null,
    Bool,
    Number,
    Text(Option<String>),
    Array(Vec<Node<'a>>),
    Object(Vec<Member<'a>>),
}

/// A name and its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Member<'a> {
    pub(crate) raw_name: &'a str,
    pub(crate) name: Option<String>,
    pub(crate) node: Node<'a>,
}

/// What a text is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Text<'a> {
    Json(Node<'a>),
    NotJson,
    TooDeep,
}

enum Stop {
    NotJson,
    TooDeep,
}

pub(crate) fn read(text: &str) -> Text<'_> {
    let mut reader = Reader { text, at: 0 };
    let node = reader.blanks().node(0);
    match node {
        Ok(node) if reader.blanks().at == text.len() => Text::Json(node),
        Err(Stop::TooDeep) => Text::TooDeep,
        _ => Text::NotJson,
    }
}

/// The members of an object as a strict reader of some of them takes it: `None` if it is none, if a name is no text, or if a name that
/// is looked for stands there twice.
pub(crate) fn object<'n, 'a>(node: &'n Node<'a>, known: &[&str]) -> Option<Fields<'n, 'a>> {
    let Json::Object(members) = &node.value else { return None };
    let count = |name: &str| members.iter().filter(|member| member.name.as_deref() == Some(name)).count();
    let fine = members.iter().all(|member| member.name.is_some()) && known.iter().all(|name| count(name) <= 1);
    fine.then_some(Fields(members))
}

/// The members of an object.
pub(crate) struct Fields<'n, 'a>(&'n [Member<'a>]);

impl<'n, 'a> Fields<'n, 'a> {
    /// Also `null`.
    pub(crate) fn even_null(&self, name: &str) -> Option<&'n Node<'a>> {
        self.0.iter().find(|member| member.name.as_deref() == Some(name)).map(|member| &member.node)
    }

    /// `null` is as good as nothing.
    pub(crate) fn get(&self, name: &str) -> Option<&'n Node<'a>> {
        self.even_null(name).filter(|node| node.value != Json::Null)
    }

    /// The text of a field; `Err` if it is there and is none.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, ()> {
        self.get(name).map(|node| node.text().ok_or(())).transpose()
    }
}

impl Node<'_> {
    pub(crate) fn text(&self) -> Option<String> {
        if let Json::Text(text) = &self.value { text.clone() } else { None }
    }

    /// The same without blanks between its tokens.
    pub(crate) fn compact(&self) -> String {
        match &self.value {
            Json::Array(items) => format!("[{}]", items.iter().map(Node::compact).collect::<Vec<_>>().join(",")),
            Json::Object(members) => {
                let member = |member: &Member<'_>| format!("{}:{}", member.raw_name, member.node.compact());
                format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
            }
            _ => self.raw.to_owned(),
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn blanks(&mut self) -> &mut Self {
        self.at += self.rest().bytes().take_while(|byte| b" \t\r\n".contains(byte)).count();
        self
    }

    fn takes(&mut self, token: &str) -> bool {
        let is_next = self.rest().starts_with(token);
        self.at += if is_next { token.len() } else { 0 };
        is_next
    }

    fn must(&mut self, token: &str) -> Result<(), Stop> {
        if self.takes(token) { Ok(()) } else { Err(Stop::NotJson) }
    }

    fn node(&mut self, depth: usize) -> Result<Node<'a>, Stop> {
        if depth > MAX_DEPTH {
            return Err(Stop::TooDeep);
        }
        let from = self.at;
        let value = match self.rest().bytes().next() {
            Some(b'{') => self.members(depth)?,
            Some(b'[') => self.items(depth)?,
            Some(b'"') => Json::Text(self.string()?),
            Some(b'n') => self.must("null").map(|()| Json::Null)?,
            Some(b't') => self.must("true").map(|()| Json::Bool)?,
            Some(b'f') => self.must("false").map(|()| Json::Bool)?,
            _ => self.number()?,
        };
        Ok(Node { raw: &self.text[from..self.at], value })
    }

    fn items(&mut self, depth: usize) -> Result<Json<'a>, Stop> {
        self.must("[")?;
        let mut items = Vec::new();
        if self.blanks().takes("]") {
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.blanks().node(depth + 1)?);
            if self.blanks().takes("]") {
                return Ok(Json::Array(items));
            }
            self.must(",")?;
        }
    }

    fn members(&mut self, depth: usize) -> Result<Json<'a>, Stop> {
        self.must("{")?;
        let mut members = Vec::new();
        if self.blanks().takes("}") {
            return Ok(Json::Object(members));
        }
        loop {
            let from = self.blanks().at;
            let name = self.string()?;
            let raw_name = &self.text[from..self.at];
            self.blanks().must(":")?;
            members.push(Member { raw_name, name, node: self.blanks().node(depth + 1)? });
            if self.blanks().takes("}") {
                return Ok(Json::Object(members));
            }
            self.must(",")?;
        }
    }

    fn string(&mut self) -> Result<Option<String>, Stop> {
        self.must("\"")?;
        let mut units: Vec<u16> = Vec::new();
        loop {
            let c = self.rest().chars().next().ok_or(Stop::NotJson)?;
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(String::from_utf16(&units).ok()),
                '\\' => {
                    let escape = self.rest().chars().next().ok_or(Stop::NotJson)?;
                    self.at += escape.len_utf8();
                    units.push(match escape {
                        '"' | '\\' | '/' => escape as u16,
                        'b' => 8,
                        'f' => 12,
                        'n' => 10,
                        'r' => 13,
                        't' => 9,
                        'u' => {
                            let digits = self.rest().get(..4).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
                            self.at += 4;
                            digits.and_then(|hex| u16::from_str_radix(hex, 16).ok()).ok_or(Stop::NotJson)?
                        }
                        _ => return Err(Stop::NotJson),
                    });
                }
                c if c < ' ' => return Err(Stop::NotJson),
                c => units.extend_from_slice(c.encode_utf16(&mut [0; 2])),
            }
        }
    }

    fn number(&mut self) -> Result<Json<'a>, Stop> {
        self.takes("-");
        if !self.takes("0") {
            self.digits()?;
        }
        if self.takes(".") {
            self.digits()?;
        }
        if self.takes("e") || self.takes("E") {
            let _ = self.takes("+") || self.takes("-");
            self.digits()?;
        }
        Ok(Json::Number)
    }

    fn digits(&mut self) -> Result<(), Stop> {
        let count = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        self.at += count;
        if count > 0 { Ok(()) } else { Err(Stop::NotJson) }
    }
}
