// SPDX-License-Identifier: Apache-2.0

//! A model on its way to the server.

use prost::bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::proto::import_model_request::Part;
use crate::proto::{ImportModelFile, ImportModelRequest, ImportModelStart};

const CHUNK: usize = 1 << 20;

/// A model to add to the server.
#[derive(Clone, Debug)]
pub struct Import {
    start: ImportModelStart,
    model: Bytes,
    files: Vec<(ImportModelFile, Bytes)>,
}

impl Import {
    /// Imports the bytes of an ONNX file as the newest version of the model `name` plus one.
    pub fn new(name: impl Into<String>, model: impl Into<Vec<u8>>) -> Self {
        let model = Bytes::from(model.into());
        let start = ImportModelStart {
            name: name.into(),
            sha256: sha256(&model),
            size: model.len() as i64,
            ..Default::default()
        };
        Self { start, model, files: Vec::new() }
    }

    /// Selects the version.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.start.version = version.into();
        self
    }

    /// The content of model.yaml.
    pub fn config(mut self, yaml: impl Into<String>) -> Self {
        self.start.config_yaml = yaml.into();
        self
    }

    /// Adds another file of the model (external weights, or a tokenizer) under the name by which
    /// the model or its config refers to it.
    pub fn file(mut self, name: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        let content = Bytes::from(content.into());
        let sha256 = sha256(&content);
        self.files.push((ImportModelFile { name: name.into(), sha256, size: content.len() as i64 }, content));
        self
    }

    /// What goes over the wire, in order.
    pub(crate) fn messages(self) -> impl Iterator<Item = ImportModelRequest> {
        let model = std::iter::once(Part::Start(self.start)).chain(chunks(self.model));
        let files =
            self.files.into_iter().flat_map(|(file, content)| [Part::File(file)].into_iter().chain(chunks(content)));
        model.chain(files).map(|part| ImportModelRequest { part: Some(part) })
    }
}

fn chunks(mut content: Bytes) -> impl Iterator<Item = Part> {
    std::iter::from_fn(move || (!content.is_empty()).then(|| Part::Chunk(content.split_to(content.len().min(CHUNK)))))
}

fn sha256(content: &[u8]) -> Bytes {
    Sha256::digest(content).to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_follow_the_model_in_chunks() {
        let import = Import::new("mine", vec![7; CHUNK + 1]).file("weights", vec![]).file("words", b"abc".to_vec());
        let parts: Vec<Part> = import.messages().filter_map(|message| message.part).collect();
        let lengths = parts.iter().map(|part| match part {
            Part::Start(start) => ("start", start.size as usize),
            Part::Chunk(chunk) => ("chunk", chunk.len()),
            Part::File(file) => ("file", file.size as usize),
        });
        let expected = [("start", CHUNK + 1), ("chunk", CHUNK), ("chunk", 1), ("file", 0), ("file", 3), ("chunk", 3)];
        assert!(lengths.eq(expected));
        // FIPS 180-2, appendix B.1.
        let Part::File(words) = &parts[4] else { panic!("{:?}", parts[4]) };
        assert_eq!(words.sha256[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
