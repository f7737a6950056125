//! The memory node: working, semantic, episodic and structured memory; recall
