// SPDX-License-Identifier: Apache-2.0

//! Arrays, and their form on the wire.

use prost::bytes::Bytes;

use crate::error::{Error, ErrorKind};
use crate::proto::{DataType, Tensor};

/// A dense array: a shape and the elements in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    shape: Vec<usize>,
    data: Data,
}

/// The elements of an [`Array`].
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// IEEE 754 binary32.
    F32(Vec<f32>),
    /// IEEE 754 binary64.
    F64(Vec<f64>),
    /// IEEE 754 binary16, as bits: Rust has no such type yet.
    F16(Vec<u16>),
    /// 32-bit integers.
    I32(Vec<i32>),
    /// 64-bit integers; token ids are of this type.
    I64(Vec<i64>),
    /// Booleans.
    Bool(Vec<bool>),
    /// Text.
    Text(Vec<String>),
}

/// A type that elements of an [`Array`] can have.
pub trait Element: Sized + Clone {
    #[doc(hidden)]
    fn wrap(values: Vec<Self>) -> Data;
    #[doc(hidden)]
    fn unwrap(data: &Data) -> Option<&[Self]>;
}

macro_rules! element {
    ($($type:ty => $variant:ident),*) => {$(
        impl Element for $type {
            fn wrap(values: Vec<Self>) -> Data {
                Data::$variant(values)
            }
            fn unwrap(data: &Data) -> Option<&[Self]> {
                if let Data::$variant(values) = data { Some(values) } else { None }
            }
        }
    )*};
}
element!(f32 => F32, f64 => F64, i32 => I32, i64 => I64, bool => Bool, String => Text);

impl Array {
    /// An array of this shape out of its elements in row-major order.
    ///
    /// Fails with [`ErrorKind::InvalidRequest`] if their number is not the product of the sizes.
    pub fn new<T: Element>(shape: impl Into<Vec<usize>>, values: impl Into<Vec<T>>) -> Result<Self, Error> {
        Self::from_data(shape.into(), T::wrap(values.into()))
    }

    /// The same for elements of any type, half precision too.
    pub fn from_data(shape: Vec<usize>, data: Data) -> Result<Self, Error> {
        let wanted = shape.iter().product::<usize>();
        if data.len() != wanted {
            let came = data.len();
            let message = format!("an array of shape {shape:?} has {wanted} elements, {came} came");
            return Err(Error::new(ErrorKind::InvalidRequest, message));
        }
        Ok(Self { shape, data })
    }

    /// The size of each axis, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, whatever their type.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The elements in row-major order, if they are of type `T`.
    pub fn values<T: Element>(&self) -> Option<&[T]> {
        T::unwrap(&self.data)
    }

    /// The elements as `f64`, whatever number they are; `None` for text.
    pub fn to_f64(&self) -> Option<Vec<f64>> {
        Some(match &self.data {
            Data::F32(values) => values.iter().map(|&v| v.into()).collect(),
            Data::F64(values) => values.clone(),
            Data::F16(values) => values.iter().map(|&v| half_to_f64(v)).collect(),
            Data::I32(values) => values.iter().map(|&v| v.into()).collect(),
            Data::I64(values) => values.iter().map(|&v| v as f64).collect(),
            Data::Bool(values) => values.iter().map(|&v| f64::from(u8::from(v))).collect(),
            Data::Text(_) => return None,
        })
    }

    /// The wire's tensor of this name. Methods take baselines in this form.
    pub fn to_tensor(&self, name: impl Into<String>) -> Tensor {
        Tensor {
            name: name.into(),
            dtype: self.data.dtype().into(),
            shape: self.shape.iter().map(|&extent| extent as i64).collect(),
            data: self.data.to_bytes(),
        }
    }

    /// The array that a tensor holds; fails with [`ErrorKind::MalformedResponse`] where type, shape and data disagree.
    pub fn from_tensor(tensor: &Tensor) -> Result<Self, Error> {
        let malformed = |why: String| {
            Error::new(
                ErrorKind::MalformedResponse,
                format!("tensor {:?} of shape {:?} {why}", tensor.name, tensor.shape),
            )
        };
        let shape: Result<Vec<usize>, _> = tensor.shape.iter().map(|&extent| extent.try_into()).collect();
        let shape = shape.map_err(|_| malformed("has a negative extent".into()))?;
        let count = shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
        let data = Data::from_bytes(tensor.dtype(), &tensor.data);
        match data {
            Some(data) if Some(data.len()) == count => Ok(Self { shape, data }),
            _ => Err(malformed(format!("cannot have {} bytes of {}", tensor.data.len(), tensor.dtype().as_str_name()))),
        }
    }
}

impl Data {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        match self {
            Data::F32(values) => values.len(),
            Data::F64(values) => values.len(),
            Data::F16(values) => values.len(),
            Data::I32(values) => values.len(),
            Data::I64(values) => values.len(),
            Data::Bool(values) => values.len(),
            Data::Text(values) => values.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn dtype(&self) -> DataType {
        match self {
            Data::F32(_) => DataType::Float32,
            Data::F64(_) => DataType::Float64,
            Data::F16(_) => DataType::Float16,
            Data::I32(_) => DataType::Int32,
            Data::I64(_) => DataType::Int64,
            Data::Bool(_) => DataType::Bool,
            Data::Text(_) => DataType::String,
        }
    }

    fn to_bytes(&self) -> Bytes {
        let bytes: Vec<u8> = match self {
            Data::F32(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Data::F64(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Data::F16(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Data::I32(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Data::I64(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Data::Bool(values) => values.iter().map(|&v| v.into()).collect(),
            Data::Text(values) => {
                values.iter().flat_map(|text| [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()).collect()
            }
        };
        bytes.into()
    }

    fn from_bytes(dtype: DataType, bytes: &[u8]) -> Option<Self> {
        Some(match dtype {
            DataType::Float32 => Data::F32(fixed(bytes, f32::from_le_bytes)?),
            DataType::Float64 => Data::F64(fixed(bytes, f64::from_le_bytes)?),
            DataType::Float16 => Data::F16(fixed(bytes, u16::from_le_bytes)?),
            DataType::Int32 => Data::I32(fixed(bytes, i32::from_le_bytes)?),
            DataType::Int64 => Data::I64(fixed(bytes, i64::from_le_bytes)?),
            DataType::Bool => Data::Bool(bytes.iter().map(|&b| b != 0).collect()),
            DataType::String => Data::Text(texts(bytes)?),
            DataType::Unspecified => return None,
        })
    }
}

fn fixed<T, const N: usize>(bytes: &[u8], read: fn([u8; N]) -> T) -> Option<Vec<T>> {
    let (elements, rest) = bytes.as_chunks();
    rest.is_empty().then(|| elements.iter().map(|&element| read(element)).collect())
}

/// Every element is a 4-byte length and that many bytes of UTF-8.
fn texts(mut bytes: &[u8]) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk()?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        texts.push(std::str::from_utf8(text).ok()?.to_owned());
        bytes = rest;
    }
    Some(texts)
}

fn half_to_f64(bits: u16) -> f64 {
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    }
}

impl From<&str> for Array {
    /// A batch of one text.
    fn from(text: &str) -> Self {
        [text].into()
    }
}

impl<const N: usize> From<[&str; N]> for Array {
    /// A batch of texts.
    fn from(texts: [&str; N]) -> Self {
        texts.map(String::from).to_vec().into()
    }
}

impl<T: Element> From<Vec<T>> for Array {
    /// One axis.
    fn from(values: Vec<T>) -> Self {
        Self { shape: vec![values.len()], data: T::wrap(values) }
    }
}

impl<T: Element, const N: usize, const M: usize> From<[[T; M]; N]> for Array {
    /// Two axes.
    fn from(rows: [[T; M]; N]) -> Self {
        Self { shape: vec![N, M], data: T::wrap(rows.into_iter().flatten().collect()) }
    }
}

impl<T: Element, const N: usize, const M: usize, const K: usize> From<[[[T; K]; M]; N]> for Array {
    /// Three axes.
    fn from(rows: [[[T; K]; M]; N]) -> Self {
        Self { shape: vec![N, M, K], data: T::wrap(rows.into_iter().flatten().flatten().collect()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(array: Array) {
        assert_eq!(Array::from_tensor(&array.to_tensor("x")).unwrap(), array);
    }

    #[test]
    fn every_type_survives_the_wire() {
        back([[1.5f32, -0.0], [f32::MAX, f32::MIN_POSITIVE]].into());
        back(vec![1e300f64, -2.0].into());
        back(Array::from_data(vec![2, 1], Data::F16(vec![0x3c00, 0xfbff])).unwrap());
        back([[i32::MIN, 7]].into());
        back([[[i64::MAX], [-1]]].into());
        back(vec![true, false].into());
        back(["", "naïve", "\u{1f600}"].into());
        back(Array::new([0, 3], Vec::<f32>::new()).unwrap());
    }

    #[test]
    fn bytes_are_little_endian_and_row_major() {
        let tensor = Array::from([[1i32, 2], [3, 256]]).to_tensor("x");
        assert_eq!(tensor.data.as_ref(), [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(Array::from("é").to_tensor("t").data.as_ref(), [2, 0, 0, 0, 0xc3, 0xa9]);
    }

    #[test]
    fn halves_are_numbers() {
        let bits = vec![0x0000, 0x0001, 0x03ff, 0x0400, 0x3555, 0xc000, 0x7bff, 0x7c00];
        let numbers = Array::from_data(vec![8], Data::F16(bits)).unwrap().to_f64().unwrap();
        // From the table of examples in Wikipedia's article on binary16.
        let wanted = [
            0.0,
            5.960_464_477_539_063e-8,
            6.097_555_160_522_461e-5,
            6.103_515_625e-5,
            0.333_251_953_125,
            -2.0,
            65504.0,
        ];
        assert_eq!(numbers[..7], wanted);
        assert_eq!(numbers[7], f64::INFINITY);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(Array::new([2, 2], vec![1f32]).unwrap_err().kind(), ErrorKind::InvalidRequest);
        let tensor = |dtype: DataType, shape: &[i64], data: &'static [u8]| Tensor {
            name: "x".into(),
            dtype: dtype.into(),
            shape: shape.into(),
            data: data.into(),
        };
        for damaged in [
            tensor(DataType::Float32, &[1], &[0; 5]),
            tensor(DataType::Float32, &[3], &[0; 8]),
            tensor(DataType::Int64, &[-1], &[]),
            tensor(DataType::Float32, &[i64::MAX, i64::MAX], &[]),
            tensor(DataType::String, &[1], &[9, 0, 0, 0, 1]),
            tensor(DataType::String, &[1], &[1, 0, 0, 0, 0xff]),
            tensor(DataType::Unspecified, &[], &[]),
        ] {
            assert_eq!(Array::from_tensor(&damaged).unwrap_err().kind(), ErrorKind::MalformedResponse);
        }
    }
}
