"use strict";
// The cluster as a picture: who is in it comes from the cluster file, and from decisions. Every name is text (textContent).

const SVG = "http://www.w3.org/2000/svg";

function drawn(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function written(text, x, y, kind) {
  const element = drawn("text", { x, y, class: kind || "" });
  element.textContent = text;
  return element;
}

// So many nodes and guests are drawn: a stranger can make up guests.
const MOST_DRAWN = 12;

class Picture {
  constructor(svg) {
    this.svg = svg;
    this.nodes = new Map();
    this.guests = new Map();
    this.client = "";
    this.size();
    new ResizeObserver(() => this.size()).observe(svg);
  }

  size() {
    // One to one: letters have the size of those beside.
    const width = Math.max(340, this.svg.clientWidth);
    if (Math.abs(width - (this.width || 0)) < 8) return;
    this.width = width;
    this.draw();
  }

  // What the cluster file says.
  cluster(cluster) {
    for (const node of cluster.nodes) this.nodes.set(node.name, { address: node.public.join(" ") });
    for (const guest of cluster.guests) {
      const known = this.guests.get(guest.address);
      this.guests.set(guest.address, { home: guest.home || (known && known.home), services: guest.services.join(", ") });
    }
    this.draw();
  }

  // What a decision tells of who is there.
  learn(item) {
    const { event } = item;
    let changed = false;
    for (const name of [event.node, event.entry, event.mac && event.mac.node]) {
      if (name && !this.nodes.has(name) && this.nodes.size < MOST_DRAWN) {
        this.nodes.set(name, { address: "" });
        changed = true;
      }
    }
    if (item.guest) {
      const known = this.guests.get(item.guest);
      // A guest sends by its home node; there are frames for it arrive.
      const home = ["spoof", "tag"].includes(event.stage) ? event.node : known && known.home;
      if (!known ? this.guests.size < MOST_DRAWN : known.home !== home) {
        this.guests.set(item.guest, { services: (known && known.services) || event.service || "", home });
        changed = true;
      }
    }
    if (item.client && item.client !== this.client) {
      this.client = item.client;
      if (this.clientText) this.clientText.textContent = item.client;
    }
    if (changed) this.draw();
  }

  draw() {
    const width = this.width;
    this.rows = { client: 38, lan: 98, node: 200, pipes: 278, guest: 366 };
    const { client, lan, node, pipes, guest } = this.rows;
    const parts = [];
    this.places = { nodes: new Map(), guests: new Map(), client: [width / 2, client] };
    parts.push(drawn("line", { class: "wire", x1: width / 2, y1: client, x2: width / 2, y2: lan }));
    parts.push(drawn("line", { class: "net", x1: 20, y1: lan, x2: width - 20, y2: lan }));
    parts.push(written("public LAN", 22, lan - 9, "soft left"));
    parts.push(drawn("line", { class: "pipes", x1: 20, y1: pipes, x2: width - 20, y2: pipes }));
    parts.push(written("pipes between the nodes", 22, pipes - 9, "soft left"));
    parts.push(this.box(width / 2, client, 170, 46, ["client"], this.client, (it) => (this.clientText = it)));
    const names = [...this.nodes.keys()];
    const gap = width / Math.max(1, names.length);
    const wide = Math.min(180, gap - 10);
    names.forEach((name, place) => {
      const x = gap * (place + 0.5);
      this.places.nodes.set(name, [x, node]);
      parts.push(drawn("line", { class: "wire", x1: x, y1: lan, x2: x, y2: node }));
      parts.push(drawn("line", { class: "wire", x1: x - wide / 4, y1: node, x2: x - wide / 4, y2: pipes }));
    });
    this.quarter = wide / 4;
    const rows = this.below(width);
    const height = Math.max(430, ...rows.map(([, at]) => at[1] + 34));
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    for (const [address, at] of rows) {
      this.places.guests.set(address, at);
      const home = this.places.nodes.get(this.guests.get(address).home);
      if (home) parts.push(drawn("polyline", { class: "wire", fill: "none", points: this.down(home, at).join(" ") }));
    }
    for (const [address, [x, y]] of this.places.guests) {
      parts.push(this.box(x, y, 144, 44, [address], this.guests.get(address).services || "guest"));
    }
    this.boxes = new Map();
    for (const [name, [x, y]] of this.places.nodes) {
      const box = this.box(x, y, wide, 54, [name], this.nodes.get(name).address);
      this.boxes.set(name, box.querySelector("rect"));
      parts.push(box);
    }
    this.moving = drawn("g", {});
    this.svg.replaceChildren(...parts, this.moving);
  }

  // Guests stand below their nodes, as far as there is room; whose home is not known stands behind the others.
  below(width) {
    const wanted = [...this.guests].map(([address, { home }]) => {
      const at = this.places.nodes.get(home);
      return [address, at ? at[0] + this.quarter : width];
    });
    wanted.sort((one, other) => one[1] - other[1]);
    const room = 150;
    const most = Math.max(1, Math.floor((width - 8) / room));
    const placed = [];
    for (let row = 0; row * most < wanted.length; row++) {
      const here = wanted.slice(row * most, (row + 1) * most);
      let least = room / 2 + 2;
      const places = here.map(([, x], place) => {
        const last = width - room / 2 - 2 - (here.length - 1 - place) * room;
        const at = Math.max(least, Math.min(x, last));
        least = at + room;
        return at;
      });
      here.forEach(([address], place) => placed.push([address, [places[place], this.rows.guest + row * 54]]));
    }
    return placed;
  }

  // From a node to a guest of its own, beside its way into the pipes.
  down(node, guest) {
    const x = node[0] + this.quarter;
    return [[x, node[1]], [x, this.rows.pipes + 36], guest];
  }

  box(x, y, wide, high, [title], below, keep) {
    const fits = Math.max(4, Math.floor(wide / 8));
    const short = (text) => (text.length > fits ? text.slice(0, fits - 1) + "…" : text);
    const second = written(short(below || ""), x, y + 14, "soft");
    if (keep) keep(second);
    const full = drawn("title", {});
    full.textContent = `${title} ${below || ""}`;
    return drawn("g", {}, full, drawn("rect", { class: "box", x: x - wide / 2, y: y - high / 2, width: wide, height: high, rx: 8 }), written(short(title), x, y - 3), second);
  }

  // The way of a packet to the node that decides, and on from there.
  way(item) {
    const { event } = item;
    const node = this.places.nodes.get(event.node);
    if (!node) return null;
    const { lan, pipes } = this.rows;
    const client = this.places.client;
    const outside = [client, [client[0], lan], [node[0], lan]];
    const guest = this.places.guests.get(item.guest);
    const known = this.guests.get(item.guest);
    const pipe = (at) => [at[0] - this.quarter, pipes];
    const toGuest = guest ? this.down(node, guest) : [];
    const entry = this.places.nodes.get(event.entry || (event.mac && event.mac.node));
    let before = [], after = [];
    switch (event.stage) {
      case "dnat": {
        before = outside;
        const home = known && this.places.nodes.get(known.home);
        after = known && known.home === event.node ? [] : [pipe(node), ...(home ? [pipe(home)] : [])];
        break;
      }
      case "tag":
        before = [...(entry && entry !== node ? [pipe(entry)] : []), pipe(node)];
        after = toGuest;
        break;
      case "save":
        after = known && known.home && known.home !== event.node ? [pipe(node)] : toGuest;
        break;
      case "spoof":
        before = [...toGuest].reverse();
        after = [...outside].reverse();
        break;
    }
    // It waits at the edge of the box, where it hides no name.
    const decides = [node[0], node[1] - 27];
    return { before: [...before, decides], after: event.verdict === "drop" ? [] : [decides, ...after] };
  }
}

// A place on a line of points, by the part of its length.
function along(points, part) {
  const lengths = points.slice(1).map(([x, y], place) => Math.hypot(x - points[place][0], y - points[place][1]));
  let left = lengths.reduce((sum, length) => sum + length, 0) * Math.min(1, Math.max(0, part));
  for (let place = 0; place < lengths.length; place++) {
    if (left <= lengths[place] && lengths[place] > 0) {
      const share = left / lengths[place];
      const [from, to] = [points[place], points[place + 1]];
      return [from[0] + (to[0] - from[0]) * share, from[1] + (to[1] - from[1]) * share];
    }
    left -= lengths[place];
  }
  return points[points.length - 1];
}
