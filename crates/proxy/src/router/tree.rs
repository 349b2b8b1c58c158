//! A radix tree over bytes whose clones share their nodes.
//!
//! A change copies only the nodes on the way to its key, so that a table of 100,000 routes can be changed in microseconds
//! while requests go on reading the previous one. [`Tree::walk`] visits the values of every key that is a prefix of a text.

use std::sync::Arc;

#[derive(Clone)]
pub(super) struct Tree<V> {
    root: Arc<Node<V>>,
}

#[derive(Clone)]
struct Node<V> {
    /// The bytes between the parent and this node; empty for the root only.
    label: Box<[u8]>,
    value: Option<Arc<V>>,
    /// Sorted by the first byte of the child's label.
    children: Vec<(u8, Arc<Node<V>>)>,
}

impl<V> Default for Tree<V> {
    fn default() -> Self {
        Self { root: Arc::new(Node::new(&[])) }
    }
}

impl<V> Node<V> {
    fn new(label: &[u8]) -> Self {
        Self { label: label.into(), value: None, children: Vec::new() }
    }

    fn child(&self, first: u8) -> Option<&Node<V>> {
        // Most nodes have few children; a scan over few is quicker than halving.
        let at = if self.children.len() <= 8 {
            self.children.iter().position(|(byte, _)| *byte == first)?
        } else {
            self.children.binary_search_by_key(&first, |(byte, _)| *byte).ok()?
        };
        Some(&self.children[at].1)
    }

    fn is_empty(&self) -> bool {
        self.value.is_none() && self.children.is_empty()
    }
}

impl<V: Clone + Default> Tree<V> {
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_empty()
    }

    /// Calls `visit` with the value of every key that `text` starts with, shortest key first.
    pub(super) fn walk<'a>(&'a self, text: &[u8], mut visit: impl FnMut(&'a V)) {
        let mut node = &*self.root;
        let mut rest = text;
        loop {
            if let Some(value) = &node.value {
                visit(value);
            }
            let Some(child) = rest.first().and_then(|first| node.child(*first)) else { return };
            let Some(after) = rest.strip_prefix(&*child.label) else { return };
            node = child;
            rest = after;
        }
    }

    /// Lets `change` edit the value of `key`, made anew if there was none. When it answers false the value is removed.
    pub(super) fn edit(&mut self, key: &[u8], change: impl FnOnce(&mut V) -> bool) {
        edit(Arc::make_mut(&mut self.root), key, change);
    }
}

fn edit<V: Clone + Default>(node: &mut Node<V>, key: &[u8], change: impl FnOnce(&mut V) -> bool) {
    let Some(first) = key.first() else {
        let value = node.value.get_or_insert_with(Arc::default);
        if !change(Arc::make_mut(value)) {
            node.value = None;
        }
        return;
    };
    let at = match node.children.binary_search_by_key(first, |(byte, _)| *byte) {
        Ok(at) => at,
        Err(at) => {
            node.children.insert(at, (*first, Arc::new(Node::new(key))));
            at
        }
    };
    let child = Arc::make_mut(&mut node.children[at].1);
    let common = child.label.iter().zip(key).take_while(|(left, right)| left == right).count();
    if common < child.label.len() {
        let lower = Node { label: child.label[common..].into(), value: child.value.take(), children: std::mem::take(&mut child.children) };
        child.label = child.label[..common].into();
        child.children.push((lower.label[0], Arc::new(lower)));
    }
    edit(child, &key[common..], change);
    if child.is_empty() {
        node.children.remove(at);
    } else if child.value.is_none() && child.children.len() == 1 {
        // A node that neither holds nor parts anything is joined with its only child.
        let (_, lower) = child.children.remove(0);
        let label = [&*child.label, &*lower.label].concat().into_boxed_slice();
        *child = Node { label, value: lower.value.clone(), children: lower.children.clone() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(tree: &Tree<Vec<u32>>, text: &str) -> Vec<u32> {
        let mut found = Vec::new();
        tree.walk(text.as_bytes(), |value| found.extend(value));
        found
    }

    #[test]
    fn every_prefix_of_a_text_is_visited_shortest_first() {
        let mut tree = Tree::<Vec<u32>>::default();
        for (number, key) in ["/api/v1/users", "/api", "", "/api/v2", "/b", "/api/v1"].iter().enumerate() {
            tree.edit(key.as_bytes(), |value| {
                value.push(number as u32);
                true
            });
        }
        assert_eq!(keys(&tree, "/api/v1/users/1"), [2, 1, 5, 0]);
        assert_eq!(keys(&tree, "/api/v"), [2, 1]);
        assert_eq!(keys(&tree, "/c"), [2]);
    }

    #[test]
    fn a_clone_does_not_see_later_changes_and_removal_leaves_nothing_behind() {
        let mut tree = Tree::<Vec<u32>>::default();
        let names: Vec<String> = (0..500).map(|number| format!("/service-{number}/x{}", number % 7)).collect();
        for (number, name) in names.iter().enumerate() {
            tree.edit(name.as_bytes(), |value| {
                value.push(number as u32);
                true
            });
        }
        let before = tree.clone();
        for name in &names {
            tree.edit(name.as_bytes(), |value| {
                value.clear();
                false
            });
        }
        assert!(tree.is_empty());
        for (number, name) in names.iter().enumerate() {
            assert_eq!(keys(&before, name), [number as u32]);
        }
    }
}
