// Where the cards of a graph stand and how the lines between them run.

// All in CSS pixels. A level with more steps than fit side by side takes several rows.
const CARD = { narrowest: 150, widest: 208, height: 66 };
const GAP = { x: 12, y: 26 };
const MARGIN = 4;
const LANE = 22;

/** `places` ({step, x, y}), `card` (its size), `edges` (SVG paths) and the size of the picture, which aims at fitting into `room`. */
export function layout(steps, causes, room) {
  const ids = new Set(steps.map((step) => step.id));
  // A step comes after those it needs, and after the one that called for it.
  // A step that runs over a list calls for its items and then waits for them: it comes after them.
  const waits = new Map(steps.map((step) => [step.id, new Set(step.depends_on)]));
  const cause = (step) => {
    const id = step.added_by ?? causes.get(step.id);
    return waits.get(id)?.has(step.id) ? undefined : id;
  };
  const before = (step) => [...new Set([...step.depends_on, cause(step)])].filter((id) => id !== step.id && ids.has(id));
  const graph = new Map(steps.map((step) => [step.id, { step, level: 0, parents: before(step), above: new Set() }]));
  rank(graph);
  const edges = [];
  for (const node of graph.values()) {
    for (const id of node.parents) {
      // A line that a longer way through the graph implies is left out.
      if (!node.parents.some((other) => other !== id && graph.get(other).above.has(id))) edges.push([graph.get(id), node]);
    }
  }
  const most = room < 540 ? 2 : 3;
  const rows = arrange(graph, most);
  const widest = Math.max(1, ...rows.map((row) => row.length));
  rows.forEach((row, index) => { for (const node of row) node.row = index; });
  const lane = edges.some(([from, to]) => to.row - from.row > 1) ? LANE : 0;
  const share = Math.floor((room - lane - 2 * MARGIN - (most - 1) * GAP.x) / most);
  const card = { width: Math.min(Math.max(share, CARD.narrowest), CARD.widest), height: CARD.height };
  const across = (count) => count * card.width + (count - 1) * GAP.x;
  for (const row of rows) {
    row.forEach((node, column) => {
      node.x = MARGIN + lane + (across(widest) - across(row.length)) / 2 + column * (card.width + GAP.x);
      node.y = MARGIN + node.row * (card.height + GAP.y);
    });
  }
  return {
    card,
    places: [...graph.values()].map(({ step, x, y }) => ({ step, x, y })),
    edges: edges.map(([from, to]) => line(from, to, card)),
    width: across(widest) + lane + 2 * MARGIN,
    height: Math.max(rows.length * (card.height + GAP.y) - GAP.y, 0) + 2 * MARGIN,
  };
}

/** Gives every node the level below its deepest parent, and the set of all nodes above it. */
function rank(graph) {
  for (let round = 0; round < graph.size; round += 1) {
    let changed = false;
    for (const node of graph.values()) {
      const level = Math.max(-1, ...node.parents.map((id) => graph.get(id).level)) + 1;
      if (level !== node.level) { node.level = level; changed = true; }
    }
    if (!changed) break;
  }
  for (const node of [...graph.values()].sort((a, b) => a.level - b.level)) {
    for (const id of node.parents) node.above = new Set([...node.above, id, ...graph.get(id).above]);
  }
}

/** Rows from the top, each with at most so many steps of one level. */
function arrange(graph, most) {
  const levels = [];
  for (const node of graph.values()) (levels[node.level] ??= []).push(node);
  return levels.filter(Boolean).flatMap((level) => {
    const rows = [];
    for (let at = 0; at < level.length; at += most) rows.push(level.slice(at, at + most));
    return rows;
  });
}

function line(from, to, card) {
  if (to.row - from.row > 1 && Math.abs(from.x - to.x) < card.width / 2) {
    // Straight down it would run behind the cards between: it takes the lane beside them.
    const [y1, y2] = [from.y + card.height / 2, to.y + card.height / 2];
    const side = Math.min(from.x, to.x) - LANE * 1.3;
    return `M${from.x} ${y1}C${side} ${y1} ${side} ${y2} ${to.x} ${y2}`;
  }
  const [x1, x2] = [from.x + card.width / 2, to.x + card.width / 2];
  const [y1, y2] = [from.y + card.height, to.y];
  const middle = (y1 + y2) / 2;
  return `M${x1} ${y1}C${x1} ${middle} ${x2} ${middle} ${x2} ${y2}`;
}
