//! The lengths of a Huffman code, with ties broken as gzip and zlib break them.

/// How long the code of each symbol is, at most `longest` bits; 0 for one that does not occur. A code has two symbols
/// at least.
pub(super) fn lengths(counts: &[u32], longest: u8) -> Vec<u8> {
    let mut counts = counts.to_vec();
    let mut used: Vec<usize> = (0..counts.len()).filter(|symbol| counts[*symbol] != 0).collect();
    while used.len() < 2 {
        // The first of the symbols 0 to 2 above all that occur, or 0.
        let next = used.last().map_or(0, |last| if *last < 2 { last + 1 } else { 0 });
        counts[next] = 1;
        used.push(next);
    }
    let leaves = counts.len();
    let mut heap = Heap { depths: vec![0; leaves], counts, nodes: used };
    for at in (0..heap.nodes.len() / 2).rev() {
        heap.sink(at);
    }
    // Nodes in the order they were joined, and each one's parent.
    let mut order = Vec::with_capacity(2 * leaves);
    let mut parents = vec![0; 2 * leaves];
    while heap.nodes.len() > 1 {
        let first = heap.pop();
        let second = heap.nodes[0];
        order.extend([first, second]);
        let node = heap.counts.len();
        (parents[first], parents[second]) = (node, node);
        heap.counts.push(heap.counts[first] + heap.counts[second]);
        heap.depths.push(heap.depths[first].max(heap.depths[second]) + 1);
        heap.nodes[0] = node;
        heap.sink(0);
    }
    order.extend(&heap.nodes);
    order.reverse();
    limit(&order, &parents, leaves, longest)
}

/// The lengths that the tree gives, shortened where they are too long. `order` starts at the root.
fn limit(order: &[usize], parents: &[usize], leaves: usize, longest: u8) -> Vec<u8> {
    let mut lengths = vec![0u8; parents.len()];
    let mut of_length = [0usize; 16];
    let mut over = 0isize;
    for &node in &order[1..] {
        let length = lengths[parents[node]] + 1;
        over += isize::from(length > longest);
        lengths[node] = length.min(longest);
        if node < leaves {
            of_length[usize::from(lengths[node])] += 1;
        }
    }
    let longest = usize::from(longest);
    if over > 0 {
        while over > 0 {
            let from = (0..longest).rev().find(|bits| of_length[*bits] != 0).unwrap_or(0);
            of_length[from] -= 1;
            of_length[from + 1] += 2;
            of_length[longest] -= 1;
            over -= 2;
        }
        // The rarest symbols get the longest codes.
        let mut rarest = order.iter().rev().filter(|node| **node < leaves);
        for bits in (1..=longest).rev() {
            for &symbol in rarest.by_ref().take(of_length[bits]) {
                lengths[symbol] = bits as u8;
            }
        }
    }
    lengths.truncate(leaves);
    lengths
}

/// A heap of tree nodes, the rarest first; of equals, the flattest.
struct Heap {
    counts: Vec<u32>,
    depths: Vec<u8>,
    nodes: Vec<usize>,
}

impl Heap {
    fn before(&self, a: usize, b: usize) -> bool {
        (self.counts[a], self.depths[a]) <= (self.counts[b], self.depths[b])
    }

    /// Moves the node at `at` down to its place.
    fn sink(&mut self, mut at: usize) {
        let node = self.nodes[at];
        loop {
            let mut child = 2 * at + 1;
            if child >= self.nodes.len() {
                break;
            }
            if child + 1 < self.nodes.len() && self.before(self.nodes[child + 1], self.nodes[child]) {
                child += 1;
            }
            if self.before(node, self.nodes[child]) {
                break;
            }
            self.nodes[at] = self.nodes[child];
            at = child;
        }
        self.nodes[at] = node;
    }

    fn pop(&mut self) -> usize {
        let first = self.nodes.swap_remove(0);
        if !self.nodes.is_empty() {
            self.sink(0);
        }
        first
    }
}
