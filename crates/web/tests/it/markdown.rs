//! Markdown as elements.

use serde_json::json;

use crate::{browser::in_browser, hub::Stage};

const RENDER: &str = "
    const { blocks } = await import('/assets/markdown.js');
    const place = document.createElement('div');
    const from = performance.now();
    place.append(...blocks(TEXT).map((block) => block.build()));
    return [place.innerHTML.replaceAll(' dir=\"auto\"', '').replaceAll(' tabindex=\"0\"', ''), performance.now() - from];
";

fn script() -> String {
    format!(
        "(async (TEXT) => {{ {RENDER} }})(arguments[0]).then(done, (error) => done([String(error), -1]));"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_models_write_becomes_elements() {
    let cases = [
        ("plain\nlines", "<p>plain\nlines</p>"),
        ("one\n\n\n two", "<p>one</p><p> two</p>"),
        ("# Title\ntext", "<h3>Title</h3><p>text</p>"),
        ("###### Deep", "<h6>Deep</h6>"),
        ("a **b *c* d** e", "<p>a <strong>b <em>c</em> d</strong> e</p>"),
        (
            "***both*** and ~~gone~~ and __strong__ and _em_",
            "<p><strong><em>both</em></strong> and <del>gone</del> and <strong>strong</strong> and <em>em</em></p>",
        ),
        ("*a **b** c*", "<p><em>a <strong>b</strong> c</em></p>"),
        ("2 * 3 * 4, snake_case_name, a ** b", "<p>2 * 3 * 4, snake_case_name, a ** b</p>"),
        ("`a *b*` and ``c ` d`` and `open", "<p><code>a *b*</code> and <code>c ` d</code> and `open</p>"),
        (r"\*not\* \`code\` a\b", r"<p>*not* `code` a\b</p>"),
        (
            "```rust\nlet a = \"<b>\";\n\n# no title\n```\nafter",
            "<pre data-language=\"rust\"><code>let a = \"&lt;b&gt;\";\n\n# no title</code></pre><p>after</p>",
        ),
        ("~~~\n```\n~~~", "<pre><code>```</code></pre>"),
        ("text\n```\nstill being written", "<p>text</p><pre><code>still being written</code></pre>"),
        (
            "- a\n- b\n  - c\n- d",
            "<ul><li><p>a</p></li><li><p>b</p><ul><li><p>c</p></li></ul></li><li><p>d</p></li></ul>",
        ),
        (
            "Steps:\n1. Do\n   ```sh\n   ls\n   ```\n2. Look\n\nEnd",
            "<p>Steps:</p><ol><li><p>Do</p><pre data-language=\"sh\"><code>ls</code></pre></li><li><p>Look</p></li></ol><p>End</p>",
        ),
        ("3. c\n4. d", "<ol start=\"3\"><li><p>c</p></li><li><p>d</p></li></ol>"),
        ("In\n1986. It was", "<p>In\n1986. It was</p>"),
        ("- a\n\n- b\n\nafter", "<ul><li><p>a</p></li><li><p>b</p></li></ul><p>after</p>"),
        ("* **bold** item", "<ul><li><p><strong>bold</strong> item</p></li></ul>"),
        (
            "> said\n> > deeper\n\nI",
            "<blockquote><p>said</p><blockquote><p>deeper</p></blockquote></blockquote><p>I</p>",
        ),
        ("- مرحبا\n- world", "<ul dir=\"rtl\"><li><p>مرحبا</p></li><li><p>world</p></li></ul>"),
        ("---\n***", "<hr><hr>"),
        (
            "Table:\n| a | b |\n|---|:-:|\n| 1 | `2` | 3 |\n\nx",
            "<p>Table:</p><div class=\"scroll\"><table><thead><tr><th scope=\"col\">a</th><th scope=\"col\">b</th></tr></thead><tbody><tr><td>1</td><td><code>2</code></td></tr></tbody></table></div><p>x</p>",
        ),
        ("this | that", "<p>this | that</p>"),
        (
            "[Text](https://example.org/a?b) <https>",
            "<p><span><a href=\"https://example.org/a?b\" rel=\"noopener noreferrer nofollow\" target=\"_blank\" title=\"https://example.org/a?b\">Text</a><span class=\"quiet\"> (example.org)</span></span> &lt;https&gt;</p>",
        ),
        (
            "[your bank](https://bank.example@evil.example/)",
            "<p><span><a href=\"https://bank.example@evil.example/\" rel=\"noopener noreferrer nofollow\" target=\"_blank\" title=\"https://bank.example@evil.example/\">your bank</a><span class=\"quiet\"> (evil.example)</span></span></p>",
        ),
        ("[x] (no link) [y]", "<p>[x] (no link) [y]</p>"),
        (
            "a\u{202e}b\u{200b}c می\u{200c}خواهم 👩\u{200d}🚀 ❤\u{fe0f}",
            "<p>a<mark title=\"A character that cannot be seen\">U+202E</mark>b<mark title=\"A character that cannot be seen\">U+200B</mark>c می\u{200c}خواهم 👩\u{200d}🚀 ❤\u{fe0f}</p>",
        ),
        ("", ""),
    ];
    let stage = Stage::start().await;
    let url = stage.url.clone();
    in_browser(async move |page| {
        page.open(&url).await;
        for (text, expected) in cases {
            let result = page.run_async(&script(), vec![json!(text)]).await;
            assert_eq!(result[0], expected, "of {text:?}");
        }
        assert_eq!(page.console().await, Vec::<String>::new());
    })
    .await;
}

/// Small models repeat themselves; the page must not freeze over it.
#[tokio::test(flavor = "multi_thread")]
async fn no_text_takes_more_than_linear_time() {
    let stage = Stage::start().await;
    let url = stage.url.clone();
    in_browser(async move |page| {
        page.open(&url).await;
        let pieces = [
            "[",
            "![",
            "*",
            "*a ",
            "**a ",
            "***",
            "_a",
            "_",
            "~~a ",
            "`",
            "`a",
            "``a`",
            "\\",
            "[a](",
            "[a](b ",
            "> ",
            ">\n",
            "- ",
            "- a\n",
            "-\n\n",
            "\n",
            " ",
            "|",
            "|\n",
            "a|b\n-|-\n",
            "```\n",
            "```",
            "#",
            "# a\n",
            "1. ",
            "1. a\n",
            "1986. a\n",
            "a\n",
            "\u{202e}",
            "\r",
            "*a*",
            "**a *b* c** ",
            "=",
            "~",
            "~~~\n",
        ];
        for piece in pieces {
            for text in
                [piece.repeat(65_536 / piece.len()), format!("{}x", piece.repeat(65_536 / piece.len()))]
            {
                let result = page.run_async(&script(), vec![json!(text)]).await;
                let took_ms = result[1].as_f64().unwrap();
                assert!(
                    (0.0..3000.0).contains(&took_ms),
                    "{piece:?} took {took_ms} ms: {}",
                    result[0].to_string().chars().take(80).collect::<String>()
                );
            }
        }
    })
    .await;
}
