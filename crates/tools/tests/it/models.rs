//! `ml_tools`: models are really trained, in a confined process.

use kamil_protocol::{ErrorCode, task::Trust};
use kamil_sandbox::{Layer, Limits};
use serde_json::{Value, json};

use crate::world::World;

fn sum(matrix: &Value) -> u64 {
    matrix
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .map(|n| n.as_u64().unwrap())
        .sum()
}

#[tokio::test]
async fn iris_is_learnt_saved_examined_and_used() {
    let world = World::new().await;
    let reply = world.call("ml_tools.train", json!({})).await.unwrap();
    let trained = &reply.output;
    assert!(trained["accuracy"].as_f64().unwrap() > 0.9, "{trained}");
    assert_eq!((&trained["n_train"], &trained["n_test"]), (&json!(105), &json!(45)));
    assert_eq!(sum(&trained["confusion_matrix"]), 45);
    assert_eq!(trained["classes"], json!(["setosa", "versicolor", "virginica"]));
    assert_eq!(trained["per_class"].as_array().unwrap().len(), 3);
    assert_eq!(trained["model_path"], "models/iris-decision_tree.json");
    let accuracy = trained["accuracy"].to_string();
    assert!(trained["summary"].as_str().unwrap().contains(&accuracy), "{trained}");
    assert!(trained["important_features"][0]["feature"].as_str().unwrap().contains("petal"), "{trained}");
    assert_eq!(reply.labels.trust, Trust::Trusted);
    assert_eq!(reply.enforced.len(), Layer::ALL.len());

    let saved = std::fs::read(world.file("models/iris-decision_tree.json")).unwrap();
    let again = world.output("ml_tools.train", json!({"dataset": "Iris dataset"})).await;
    assert_eq!(&again, trained);
    assert_eq!(std::fs::read(world.file("models/iris-decision_tree.json")).unwrap(), saved);
    let other = world
        .output("ml_tools.train", json!({"model": "logistic_regression", "seed": 7, "test_fraction": 0.5}));
    let other = other.await;
    assert!(other["accuracy"].as_f64().unwrap() > 0.9 && other["n_test"] == 75, "{other}");

    let model = "models/iris-decision_tree.json";
    let examined = world.output("ml_tools.evaluate", json!({"model": model})).await;
    assert_eq!((&examined["rows"], &examined["seen_in_training"]), (&json!(150), &json!(true)));
    assert_eq!(sum(&examined["confusion_matrix"]), 150);
    let rows = json!([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]);
    let predicted = world.output("ml_tools.predict", json!({"model": model, "rows": rows})).await;
    assert_eq!(predicted, json!({"target": "species", "predictions": ["setosa", "virginica"]}));
    let short = json!({"model": model, "rows": [[1.0]]});
    let problem = world.refusal("ml_tools.predict", short, ErrorCode::ToolFailed).await;
    assert!(problem.detail.contains("the model needs 4"), "{problem}");
}

#[tokio::test]
async fn a_table_of_the_workspace_is_learnt() {
    let world = World::new().await;
    let mut csv = "id;width;noise;sort\n".to_owned();
    for number in 0..200 {
        let sort = if number % 3 == 0 { "wide" } else { "narrow" };
        let width = if number % 3 == 0 { 10 + number % 5 } else { number % 7 };
        csv.push_str(&format!("n{number};{width}.5;{};{sort}\n", (number * 7919) % 101));
    }
    std::fs::create_dir(world.file("data")).unwrap();
    std::fs::write(world.file("data/fruit.csv"), &csv).unwrap();
    let problem =
        world.refusal("ml_tools.train", json!({"dataset": "data/fruit.csv"}), ErrorCode::ToolFailed).await;
    assert!(problem.detail.contains("`id`") && problem.detail.contains("ignore"), "{problem}");
    for model in ["decision_tree", "logistic_regression"] {
        let arguments =
            json!({"dataset": "data/fruit.csv", "target": "sort", "ignore": ["id"], "model": model});
        let reply = world.call("ml_tools.train", arguments).await.unwrap();
        assert!(reply.output["accuracy"].as_f64().unwrap() > 0.95, "{}", reply.output);
        assert_eq!(reply.output["model_path"], format!("models/fruit-{model}.json"));
        assert_eq!(reply.labels.trust, Trust::Untrusted);
        // The columns may come in another order, with others between them.
        std::fs::write(
            world.file("new.csv"),
            "sort,extra,noise,width\nwide,x,1,14\nnarrow,y,2,3\nnarrow,z,3,1\nwide,z,3,12\nnarrow,z,9,2\n",
        )
        .unwrap();
        let arguments = json!({"model": format!("models/fruit-{model}.json"), "dataset": "new.csv"});
        let examined = world.output("ml_tools.evaluate", arguments).await;
        assert_eq!(
            (&examined["accuracy"], &examined["seen_in_training"]),
            (&json!(1.0), &json!(false)),
            "{examined}"
        );
    }
    let wrong = json!({"dataset": "data/fruit.csv", "target": "kind", "ignore": ["id"]});
    let problem = world.refusal("ml_tools.train", wrong, ErrorCode::ToolFailed).await;
    assert!(problem.detail.contains("no column `kind`") && problem.detail.contains("width"), "{problem}");
    let problem =
        world.refusal("ml_tools.train", json!({"dataset": "fruits.csv"}), ErrorCode::ToolFailed).await;
    assert!(problem.detail.contains("no such file") && problem.detail.contains("iris"), "{problem}");
    world.refusal("ml_tools.train", json!({"test_fraction": 2}), ErrorCode::InvalidArguments).await;
    world.refusal("ml_tools.train", json!({"model": "transformer"}), ErrorCode::InvalidArguments).await;
    std::fs::write(world.file("fake.json"), "{\"format\": 1}").unwrap();
    let problem =
        world.refusal("ml_tools.evaluate", json!({"model": "fake.json"}), ErrorCode::ToolFailed).await;
    assert!(problem.detail.contains("not a saved model"), "{problem}");
}

#[tokio::test]
async fn nothing_outside_is_trained_on() {
    let world = World::new().await;
    let table: String = (0..20).map(|row| format!("{row},{}\n", row % 2)).collect();
    std::fs::write(world.outside().join("table.csv"), format!("x,y\n{table}")).unwrap();
    std::os::unix::fs::symlink(world.outside().join("table.csv"), world.file("link.csv")).unwrap();
    assert!(std::fs::read(world.file("link.csv")).is_ok());
    let absolute = world.outside().join("table.csv");
    for way in ["link.csv", "../../table.csv", absolute.to_str().unwrap()] {
        world.refusal("ml_tools.train", json!({"dataset": way}), ErrorCode::ToolFailed).await;
    }
    std::fs::copy(&absolute, world.file("table.csv")).unwrap();
    world.output("ml_tools.train", json!({"dataset": "table.csv"})).await;
}

#[tokio::test]
async fn memory_is_bounded() {
    let world =
        World::with(|options| options.limits = Limits { memory_bytes: 24 << 20, ..options.limits.clone() })
            .await;
    world.output("ml_tools.train", json!({})).await;
    let row = vec!["1.5"; 100].join(",");
    let mut csv = (0..100).map(|column| format!("c{column}")).collect::<Vec<_>>().join(",");
    for number in 0..30_000 {
        csv.push_str(&format!("\n{}{row}", if number % 2 == 0 { "" } else { "2" }));
    }
    std::fs::write(world.file("large.csv"), csv).unwrap();
    let arguments = json!({"dataset": "large.csv", "target": "c0"});
    let problem = world.refusal("ml_tools.train", arguments, ErrorCode::ToolFailed).await;
    assert!(problem.detail.contains("ended without a result"), "{problem}");
}
